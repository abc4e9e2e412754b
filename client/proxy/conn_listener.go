package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
)

// connListener is a listener of connections that somebody else has accepted.
type connListener struct {
	addr    net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	closing sync.Once
}

func newConnListener(addr net.Addr) *connListener {
	return &connListener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection that was handed over.
func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close has Accept fail.
func (l *connListener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return nil
}

// Addr is where the connections were accepted.
func (l *connListener) Addr() net.Addr { return l.addr }

// prefixedConn is a client's connection whose first byte was read already.
type prefixedConn struct {
	net.Conn
	ctx      context.Context // ends when the connection must
	prefix   []byte
	hijacked bool          // the server is out of it; only its handler's goroutine looks
	done     chan struct{} // closed when nothing uses the connection any more
}

// Read returns the first byte, and then what comes.
func (h *prefixedConn) Read(b []byte) (int, error) {
	if len(h.prefix) > 0 && len(b) > 0 {
		n := copy(b, h.prefix)
		h.prefix = h.prefix[n:]
		return n, nil
	}
	return h.Conn.Read(b)
}

// CloseWrite is the connection's.
func (h *prefixedConn) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
