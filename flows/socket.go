package flows

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/knockgw/knockgw/internal/netx"
)

// newSocket returns a Conn for an upstream's connection.
func newSocket(c net.Conn) Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return newTCPSocket(tcp)
	}
	return stream{c}
}

// A stream adapts any net.Conn to Conn.
type stream struct{ net.Conn }

// CloseWrite closes the write side if the connection supports it, and otherwise
// the whole connection: the peer has to see the end.
func (s stream) CloseWrite() error {
	err := netx.CloseWrite(s.Conn)
	if errors.Is(err, errors.ErrUnsupported) {
		return s.Close()
	}
	return err
}

// Abort closes the connection.
func (s stream) Abort() { _ = s.Close() }

// abortTCP resets a kernel connection.
func abortTCP(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only if the connection is closed
	_ = c.Close()
}

// A trackedConn is a client's connection that the embedding program uses.
type trackedConn struct {
	Conn
	f      *Flow
	closed chan struct{}
	once   sync.Once
}

// Read implements net.Conn and counts bytes.
func (h *trackedConn) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.count(&h.f.up, n)
	if errors.Is(err, io.EOF) {
		h.f.idleTimer.halfClose()
	}
	return n, err
}

// Write implements net.Conn and counts bytes.
func (h *trackedConn) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	h.count(&h.f.down, n)
	return n, err
}

func (h *trackedConn) count(c counter, n int) {
	if n > 0 {
		c.Add(uint64(n))
		h.f.touch()
	}
}

// Abort ends the flow with a reset.
func (h *trackedConn) Abort() {
	h.once.Do(func() {
		h.Conn.Abort()
		close(h.closed)
	})
}

// Close ends the flow.
func (h *trackedConn) Close() error {
	err := net.ErrClosed
	h.once.Do(func() {
		err = h.Conn.Close()
		close(h.closed)
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
