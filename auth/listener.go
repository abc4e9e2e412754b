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

// MaxHandshakes is how many connections a Listener has in its hands at once, by default: handshaking,
// or authenticated and not accepted yet. Each holds one message's memory, 3 s at the most if it fails.
// At the limit new connections wait in the kernel's queue.
const MaxHandshakes = 1024

// What to do when accepting fails for a while, as it does when there are no file descriptors left.
const (
	minRetryDelay = 5 * time.Millisecond
	maxRetryDelay = time.Second
)

// ListenerOptions are the options of NewListener. The zero value is fine.
type ListenerOptions struct {
	// MaxHandshakes bounds the connections in hand; zero means the constant of this name.
	MaxHandshakes int
	// MaxPerSource bounds those of one source: an IPv4 address, or an IPv6 /64. Zero means no bound of
	// its own: a single source may then keep everybody waiting by filling MaxHandshakes.
	MaxPerSource int
	// Limit, if not nil, is asked about each connection before anything else. It is called by one
	// goroutine at a time, which accepts nothing meanwhile.
	Limit Limiter
	// Report, if not nil, is told how each connection ended up, concurrently. It must return soon and
	// not keep the connection.
	Report func(Event)
}

// A Handshaker finds out who is at the other end of a connection: a *Server, or what goes round one.
// It keeps to what Server.Handshake promises.
type Handshaker interface {
	Handshake(ctx context.Context, conn net.Conn) (Peer, error)
}

// Event is what became of one connection that a Listener has accepted.
type Event struct {
	Conn   net.Conn // as it was accepted; borrowed for the call
	Result Result
	Peer   Peer // who it is; the zero Peer unless Result is ResultOK
	// Client is whose message it was, also where that was refused; nil if none opened.
	Client *protocol.Client
	// ClockOffset is the message's time less ours, if Client is set and said a time.
	ClockOffset time.Duration
	Took        time.Duration // from the end of accepting on
	Err         error         // nil or an *Error
}

// Listener is a net.Listener of authenticated connections: Accept returns a *Conn.
type Listener struct {
	inner    net.Listener
	server   Handshaker
	limit    Limiter
	sources  *sourceCounts
	report   func(Event)
	ready    chan *Conn
	slots    chan struct{}
	inFlight atomic.Int64
	ctx      context.Context // ends with the Listener; its cause is what Accept says then
	cancel   context.CancelCauseFunc
	running  sync.WaitGroup
	closing  sync.Once
	closeErr error // what closing inner said
}

// NewListener authenticates what inner accepts with server, concurrently. A connection that fails is
// reset at the handshake's deadline, always alike. One over a limit is reset at once, as a server does
// that has no room: not a byte of it was read, so that says nothing about what it would have been, only
// that its source, or a neighbour behind the same address, has come too often. The Listener owns inner
// and works from now on until Close, which the caller must call.
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
	if l.ctx.Err() != nil { // rather than one that select may still find ready
		return nil, context.Cause(l.ctx)
	}
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Addr is inner's address.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close closes inner, resets what was not accepted yet, and waits until nothing of the Listener runs
// any more. Accepted connections live on. Accept then fails with net.ErrClosed.
func (l *Listener) Close() error {
	l.closing.Do(func() {
		l.cancel(net.ErrClosed)
		l.closeErr = l.inner.Close()
	})
	l.running.Wait()
	return l.closeErr
}

// acceptAll accepts until inner fails for good.
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
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
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

// start starts the handshake of a connection, unless a limit forbids it.
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

// handle authenticates one connection and hands it to Accept.
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

// newEvent says how a handshake ended.
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

// InFlight is how many connections are handshaking, or authenticated and not accepted yet.
func (l *Listener) InFlight() int { return int(l.inFlight.Load()) }

// reset closes conn with a RST where it can, whatever was read or not: an ordinary close is a FIN or a
// RST depending on whether unread input is left, and so would tell one failure from another.
func reset(conn net.Conn) {
	_ = netx.SetLinger(conn, 0) // if it fails, the close is an orderly one
	_ = conn.Close()            // it is being thrown away
}
