package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
)

// handover is a listener of connections that somebody else has accepted.
type handover struct {
	addr    net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	closing sync.Once
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection that was handed over.
func (l *handover) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close has Accept fail.
func (l *handover) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return nil
}

// Addr is where the connections were accepted.
func (l *handover) Addr() net.Addr { return l.addr }

// handed is a client's connection whose first byte was read already.
type handed struct {
	net.Conn
	ctx      context.Context // ends when the connection must
	first    []byte
	hijacked bool          // the server is out of it; only its handler's goroutine looks
	done     chan struct{} // closed when nothing uses the connection any more
}

// Read returns the first byte, and then what comes.
func (h *handed) Read(b []byte) (int, error) {
	if len(h.first) > 0 && len(b) > 0 {
		n := copy(b, h.first)
		h.first = h.first[n:]
		return n, nil
	}
	return h.Conn.Read(b)
}

// CloseWrite is the connection's.
func (h *handed) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
