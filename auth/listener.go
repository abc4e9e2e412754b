package auth

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/netx"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// MaxHandshakes is the default limit on the connections of a Listener that are
// handshaking, or authenticated and not accepted yet. Each holds the memory of
// one message, for at most 3 s if it fails. At the limit, new connections wait
// in the kernel's queue.
const MaxHandshakes = 1024

// Delays between attempts while accepting fails, as it does without free file
// descriptors.
const (
	minRetryDelay = 5 * time.Millisecond
	maxRetryDelay = time.Second
)

// ListenerOptions configure NewListener. The zero value is valid.
type ListenerOptions struct {
	// MaxHandshakes limits the connections in flight; zero means the constant of
	// this name.
	MaxHandshakes int
	// MaxPerSource limits those of one source: an IPv4 address, or an IPv6 /64.
	// Zero means no limit: a single source may then block all others by filling
	// MaxHandshakes.
	MaxPerSource int
	// Limit, if not nil, is called for each connection before anything else, by
	// one goroutine, which accepts no connection meanwhile.
	Limit Limiter
	// Report, if not nil, is called with the outcome of each connection,
	// concurrently. It must return soon and not keep the connection.
	Report func(Event)
}

// A Handshaker authenticates the peer of a connection: a *Server, or a wrapper
// of one. It behaves as Server.Handshake is documented.
type Handshaker interface {
	Handshake(ctx context.Context, conn net.Conn) (Peer, error)
}

// Event is the outcome of a connection that a Listener accepted.
type Event struct {
	Conn   net.Conn // as it was accepted; borrowed for the call
	Result Result
	Peer   Peer // the zero Peer unless Result is ResultOK
	// Client is the sender of the message, even if it was refused; nil if no
	// message opened.
	Client *protocol.Client
	// ClockOffset is the message's time minus ours, if Client is set.
	ClockOffset time.Duration
	Took        time.Duration // since the connection was accepted
	Err         error         // nil or an *Error
}

// Listener is a net.Listener of authenticated connections: Accept returns a
// *Conn.
type Listener struct {
	inner    net.Listener
	server   Handshaker
	limit    Limiter
	sources  *sourceCounts
	report   func(Event)
	ready    chan *Conn
	slots    chan struct{}
	inFlight atomic.Int64
	ctx      context.Context // ends with the Listener; its cause is the error of Accept
	cancel   context.CancelCauseFunc
	running  sync.WaitGroup
	closing  sync.Once
	closeErr error // of inner
}

// NewListener returns a Listener that authenticates the connections of inner
// with server, concurrently. A connection that fails is reset at the
// handshake's deadline, always alike. One over a limit is reset at once, as by
// a server without room: not a byte of it was read, so that reveals only that
// its source, or a neighbor behind the same address, connected too often. The
// Listener takes ownership of inner and starts at once; the caller must Close
// it.
func NewListener(inner net.Listener, server Handshaker, options ListenerOptions) *Listener {
	slots := options.MaxHandshakes
	if slots <= 0 {
		slots = MaxHandshakes
	}
	l := &Listener{
		inner:  inner,
		server: server,
		limit:  options.Limit,
		report: options.Report,
		ready:  make(chan *Conn),
		slots:  make(chan struct{}, slots),
	}
	if l.report == nil {
		l.report = func(Event) {}
	}
	if options.MaxPerSource > 0 {
		l.sources = &sourceCounts{max: options.MaxPerSource, counts: make(map[packet.Addr]int)}
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.running.Go(l.acceptAll)
	return l
}

// Accept returns the next authenticated connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	if l.ctx.Err() != nil { // before select, which might choose a ready connection
		return nil, context.Cause(l.ctx)
	}
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Addr returns the address of inner.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close closes inner, resets the connections that were not accepted yet, and
// waits for all goroutines of the Listener. Accepted connections stay open.
// Accept then fails with net.ErrClosed.
func (l *Listener) Close() error {
	l.closing.Do(func() {
		l.cancel(net.ErrClosed)
		l.closeErr = l.inner.Close()
	})
	l.running.Wait()
	return l.closeErr
}

// acceptAll accepts until inner fails permanently.
func (l *Listener) acceptAll() {
	retry := minRetryDelay
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}

		conn, err := l.inner.Accept()
		if err == nil {
			retry = minRetryDelay
			l.start(conn)
			continue
		}

		<-l.slots
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			l.cancel(err)
			return
		}
		select {
		case <-time.After(retry):
			retry = min(2*retry, maxRetryDelay)
		case <-l.ctx.Done():
			return
		}
	}
}

// start starts the handshake of a connection within the limits.
func (l *Listener) start(conn net.Conn) {
	from := remoteAddr(conn)
	refused := l.limit != nil && !l.limit.Allow(from)
	if !refused && !l.sources.add(from) {
		refused = true
	}
	if refused {
		l.report(Event{Conn: conn, Result: ResultLimited, Err: newError(ResultLimited, nil)})
		reset(conn)
		<-l.slots
		return
	}
	l.inFlight.Add(1)
	l.running.Go(func() {
		l.handle(conn)
		l.inFlight.Add(-1)
		l.sources.remove(from)
		<-l.slots
	})
}

// handle authenticates a connection and passes it to Accept.
func (l *Listener) handle(conn net.Conn) {
	start := time.Now()
	peer, err := l.server.Handshake(l.ctx, conn)
	l.report(newEvent(conn, peer, err, time.Since(start)))
	if err != nil {
		reset(conn)
		return
	}
	select {
	case l.ready <- &Conn{Conn: conn, peer: peer}:
	case <-l.ctx.Done():
		reset(conn)
	}
}

// newEvent returns the outcome of a handshake.
func newEvent(conn net.Conn, peer Peer, err error, took time.Duration) Event {
	e := Event{
		Conn: conn, Result: ResultOf(err), Peer: peer,
		Client: peer.Client, ClockOffset: peer.ClockOffset, Took: took, Err: err,
	}
	var failure *Error
	if errors.As(err, &failure) {
		e.Client, e.ClockOffset = failure.Client, failure.ClockOffset
	}
	return e
}

// InFlight returns the number of connections that are handshaking, or
// authenticated and not accepted yet.
func (l *Listener) InFlight() int { return int(l.inFlight.Load()) }

// reset closes conn with a RST if it can, whatever was read: an ordinary close
// sends a FIN or a RST depending on whether unread input is left, which would
// distinguish failures.
func reset(conn net.Conn) {
	_ = netx.SetLinger(conn, 0) // if it fails, the close is an orderly one
	_ = conn.Close()            // the connection is discarded
}
