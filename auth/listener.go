package auth

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// MaxHandshakes is how many connections a Listener has in its hands at once, by default: handshaking,
// or authenticated and not accepted yet. Each holds one message's memory, 3 s at the most if it fails.
// At the limit new connections wait in the kernel's queue.
const MaxHandshakes = 1024

// What to do when accepting fails for a while, as it does when there are no file descriptors left.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = time.Second
)

// ListenerOptions are the options of NewListener. The zero value is fine.
type ListenerOptions struct {
	// MaxHandshakes bounds the connections in hand; zero means the constant of this name.
	MaxHandshakes int
	// Report, if not nil, is called with the end of each handshake, concurrently: err is nil or an
	// *Error. It must not keep the connection.
	Report func(conn net.Conn, err error)
}

// Listener is a net.Listener of authenticated connections: Accept returns a *Conn.
type Listener struct {
	inner   net.Listener
	server  *Server
	report  func(net.Conn, error)
	ready   chan *Conn
	slots   chan struct{}
	ctx     context.Context // ends with the Listener; its cause is what Accept says then
	cancel  context.CancelCauseFunc
	running sync.WaitGroup
	closing sync.Once
	closed  error // what closing inner said
}

// NewListener authenticates what inner accepts with server, concurrently. A connection that fails is
// reset at the handshake's deadline, always alike. The Listener owns inner and works from now on until
// Close, which the caller must call.
func NewListener(inner net.Listener, server *Server, options ListenerOptions) *Listener {
	slots := options.MaxHandshakes
	if slots <= 0 {
		slots = MaxHandshakes
	}
	l := &Listener{
		inner:  inner,
		server: server,
		report: options.Report,
		ready:  make(chan *Conn),
		slots:  make(chan struct{}, slots),
	}
	if l.report == nil {
		l.report = func(net.Conn, error) {}
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
		l.closed = l.inner.Close()
	})
	l.running.Wait()
	return l.closed
}

// acceptAll accepts until inner fails for good.
func (l *Listener) acceptAll() {
	retry := firstRetry
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		conn, err := l.inner.Accept()
		if err == nil {
			retry = firstRetry
			l.running.Go(func() { l.handle(conn) })
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
			retry = min(2*retry, lastRetry)
		case <-l.ctx.Done():
			return
		}
	}
}

// handle authenticates one connection and hands it to Accept.
func (l *Listener) handle(conn net.Conn) {
	defer func() { <-l.slots }()
	peer, err := l.server.Handshake(l.ctx, conn)
	l.report(conn, err)
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

// reset closes conn with a RST where it can, whatever was read or not: an ordinary close is a FIN or a
// RST depending on whether unread input is left, and so would tell one failure from another.
func reset(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0) // without it the close is an ordinary one, and there is nothing else to do
	}
	_ = conn.Close() // it is being thrown away
}

// Conn is an authenticated connection. It is the connection that was accepted, and who is at its end.
type Conn struct {
	net.Conn
	peer Peer
}

// Peer is what the client's message said.
func (c *Conn) Peer() Peer { return c.peer }

// NetConn is the connection that was accepted.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite sends a FIN where the accepted connection can, and fails with errors.ErrUnsupported
// where it cannot.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
