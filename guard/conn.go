package guard

import (
	"net"
	"sync"

	"github.com/knockgw/knockgw/internal/netx"
	"github.com/knockgw/knockgw/packet"
)

// listener makes a service's connections out of those of another listener.
type listener struct {
	net.Listener
	service *service
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, guard: l.service.guard}
	remote, local := addrPort(inner.RemoteAddr()), addrPort(inner.LocalAddr())
	if remote.IsValid() && local.IsValid() {
		c.tuple, c.valid = tupleOf(remote, local, l.service.Port), true
	}
	return c, nil
}

// conn is an accepted connection that the gate knows as a flow until it is closed.
type conn struct {
	net.Conn
	guard *Guard
	tuple packet.Tuple
	valid bool // the connection has addresses that make a tuple

	closeOnce sync.Once
	closeErr  error // what closing said
}

// NetConn is the connection that was accepted.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Close tells the gate first: once the socket is closed, its tuple may be another connection's.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		c.guard.unregister(c)
		c.closeErr = c.Conn.Close()
	})
	return c.closeErr
}

// CloseWrite sends a FIN where the accepted connection can.
func (c *conn) CloseWrite() error {
	return netx.CloseWrite(c.Conn)
}

// SetLinger is what resets the connection where it can be.
func (c *conn) SetLinger(sec int) error {
	return netx.SetLinger(c.Conn, sec)
}

// register takes c up under its tuple. One that had it before is over for the host, whoever may still hold it.
func (g *Guard) register(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns[c.tuple] != nil {
		g.gate.Remove(c.tuple)
	}
	g.conns[c.tuple] = c
}

// unregister is the end of c for the gate, unless its tuple is another's by now.
func (g *Guard) unregister(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns[c.tuple] == c {
		delete(g.conns, c.tuple)
		g.gate.Remove(c.tuple)
	}
}

// evicted ends a connection that the gate knows no more.
func (g *Guard) evicted(t packet.Tuple) {
	g.mu.Lock()
	c := g.conns[t]
	g.mu.Unlock()
	if c != nil {
		_ = c.SetLinger(0)
		_ = c.Close() // it is being thrown away
	}
}
