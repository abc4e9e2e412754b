package proxy

import (
	"context"
	"net"
	"sync"

	"github.com/knockgw/knockgw/internal/netx"
)

// connListener is a net.Listener for connections that were accepted elsewhere.
type connListener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newConnListener(addr net.Addr) *connListener {
	return &connListener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection that is sent to conns.
func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept return net.ErrClosed.
func (l *connListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the address at which the connections were accepted.
func (l *connListener) Addr() net.Addr { return l.addr }

// prefixedConn is a client's connection whose first byte was already read.
type prefixedConn struct {
	net.Conn
	ctx      context.Context // ends when the connection must
	prefix   []byte          // what Read returns first
	hijacked bool            // no longer owned by the HTTP server; used by the handler's goroutine only
	done     chan struct{}   // closed when the connection is no longer in use
}

// Read returns the prefix, and then reads from the connection.
func (c *prefixedConn) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 && len(b) > 0 {
		n := copy(b, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite calls the connection's CloseWrite.
func (c *prefixedConn) CloseWrite() error {
	return netx.CloseWrite(c.Conn)
}
