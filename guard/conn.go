package guard

import (
	"net"
	"sync"

	"github.com/knockgw/knockgw/internal/netx"
	"github.com/knockgw/knockgw/packet"
)

// listener wraps the connections of another listener for a service.
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

// conn is an accepted connection, a flow of the gate until it is closed.
type conn struct {
	net.Conn
	guard *Guard
	tuple packet.Tuple
	valid bool // the connection has IP addresses, and tuple is set

	closeOnce sync.Once
	closeErr  error // of the connection
}

// NetConn returns the accepted connection.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Close removes the flow first: once the socket is closed, another connection
// may have its tuple.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		c.guard.unregister(c)
		c.closeErr = c.Conn.Close()
	})
	return c.closeErr
}

// CloseWrite ends the sending direction, if the accepted connection can.
func (c *conn) CloseWrite() error {
	return netx.CloseWrite(c.Conn)
}

// SetLinger sets what Close does with unsent data, if the accepted connection
// can.
func (c *conn) SetLinger(sec int) error {
	return netx.SetLinger(c.Conn, sec)
}

// register adds c under its tuple. A connection that had the tuple before has
// ended for the host, even if the program still holds it.
func (g *Guard) register(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns[c.tuple] != nil {
		g.gate.Remove(c.tuple)
	}
	g.conns[c.tuple] = c
}

// unregister removes the flow of c, unless another connection has its tuple.
func (g *Guard) unregister(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns[c.tuple] == c {
		delete(g.conns, c.tuple)
		g.gate.Remove(c.tuple)
	}
}

// evicted resets a connection whose flow the gate has removed.
func (g *Guard) evicted(t packet.Tuple) {
	g.mu.Lock()
	c := g.conns[t]
	g.mu.Unlock()
	if c != nil {
		_ = c.SetLinger(0)
		_ = c.Close() // the connection is discarded
	}
}
