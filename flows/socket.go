package flows

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/knockgw/knockgw/internal/netx"
)

// newSocket makes a Conn of an upstream's connection.
func newSocket(c net.Conn) Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return newTCPSocket(tcp)
	}
	return stream{c}
}

// stream is any net.Conn as a Conn.
type stream struct{ net.Conn }

// CloseWrite closes the sending side where the connection can, and all of it
// where it cannot: the peer must hear that nothing more comes.
func (s stream) CloseWrite() error {
	err := netx.CloseWrite(s.Conn)
	if errors.Is(err, errors.ErrUnsupported) {
		return s.Close()
	}
	return err
}

// Abort closes the connection.
func (s stream) Abort() { _ = s.Close() }

// abortTCP closes a kernel connection with a reset.
func abortTCP(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a connection that is closed already
	_ = c.Close()
}

// trackedConn is a client's connection in the hands of the embedding program.
type trackedConn struct {
	Conn
	f      *Flow
	closed chan struct{}
	once   sync.Once
}

// Read counts.
func (h *trackedConn) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.count(&h.f.up, n)
	if errors.Is(err, io.EOF) {
		h.f.idleTimer.halfClose()
	}
	return n, err
}

// Write counts.
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
