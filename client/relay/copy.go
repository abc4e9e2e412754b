package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/knockgw/knockgw/internal/ctxutil"
	"github.com/knockgw/knockgw/internal/netx"
)

// bufferSize is the number of bytes per copy step where the kernel does not move
// the bytes itself: the capacity of a pipe, and the size of a kernel
// super-packet.
const bufferSize = 64 << 10

// Stats counts the bytes of a relay.
type Stats struct {
	Up   int64 // from the application to the service
	Down int64 // from the service to the application
}

// Relay copies between connections and keeps its buffers from one call to the
// next. The zero value is ready to use. It is safe for concurrent use.
type Relay struct {
	buffers sync.Pool // of *[]byte, bufferSize bytes each
}

// Copy copies bytes between app, the application's connection, and service until
// both directions have ended, one of the connections fails, or ctx ends. It owns
// both connections; when it returns, they are closed and none of its goroutines
// is running.
//
// When one side ends its stream, Copy calls CloseWrite on the other connection,
// or Close if it has no CloseWrite, and the opposite direction continues. After
// a failure, or when ctx ends, both connections are reset.
//
// The error is the first [*Error], or the cause of ctx. It is nil after an
// orderly end, which includes an application that has ended its stream and does
// not read the rest of the service's.
func (r *Relay) Copy(ctx context.Context, app, service net.Conn) (Stats, error) {
	var (
		stats Stats
		first error
		once  sync.Once
		wg    sync.WaitGroup
	)
	fail := func(err error) {
		once.Do(func() {
			first = err
			Reset(app)
			Reset(service)
		})
	}
	release := ctxutil.AfterFunc(ctx, func() { fail(context.Cause(ctx)) })

	var appEnded atomic.Bool // the application's end of stream was passed on
	wg.Go(func() {
		n, err := r.copyHalf(service, app, App)
		if stats.Up = n; err != nil {
			fail(err)
			return
		}
		appEnded.Store(true)
	})

	n, err := r.copyHalf(app, service, Service)
	stats.Down = n
	switch {
	case err != nil && appEnded.Load() && isClosedByPeer(err):
		fail(nil)
	case err != nil:
		fail(err)
	}

	wg.Wait()
	release()
	once.Do(func() {
		// Both directions have ended in order: an error of closing has no
		// consequence.
		_ = app.Close()
		_ = service.Close()
	})
	return stats, first
}

// isClosedByPeer reports whether err is from writing to a connection that its
// peer has closed. An application that has sent its last byte and closes does
// not want what the service still sends, such as the close_notify of a TLS
// session: that is an orderly end. The kernel returns EPIPE for a connection
// whose FIN arrived before the reset, and ECONNRESET for any other.
func isClosedByPeer(err error) bool {
	if errors.Is(err, syscall.EPIPE) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write" && errors.Is(err, syscall.ECONNRESET)
}

// Copy is [Relay.Copy] for a single pair of connections.
func Copy(ctx context.Context, app, service net.Conn) (Stats, error) {
	var r Relay
	return r.Copy(ctx, app, service)
}

// copyHalf copies from src, which is the given side, to dst until src ends, and
// passes the end of stream on. Its error is an *Error.
func (r *Relay) copyHalf(dst, src net.Conn, side Side) (int64, error) {
	n, err := r.copy(dst, src)
	if err != nil {
		return n, &Error{Side: side, Op: OpCopy, Err: err}
	}
	if err := closeWrite(dst); err != nil {
		return n, &Error{Side: side, Op: OpClose, Err: err}
	}
	return n, nil
}

// copy is io.Copy: in the kernel where that is possible, else with a pooled
// buffer.
func (r *Relay) copy(dst, src net.Conn) (int64, error) {
	if canSplice(dst) && canSplice(src) {
		return io.Copy(dst, src)
	}
	b, ok := r.buffers.Get().(*[]byte)
	if !ok {
		b = new([]byte)
		*b = make([]byte, bufferSize)
	}
	defer r.buffers.Put(b)
	// The wrappers hide ReadFrom and WriteTo, which would allocate their own
	// buffer.
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *b)
}

// canSplice reports whether the kernel can move bytes between such connections
// (Linux).
func canSplice(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

// closeWrite ends the stream that is written to c.
func closeWrite(c net.Conn) error {
	err := netx.CloseWrite(c)
	if errors.Is(err, errors.ErrUnsupported) {
		return c.Close()
	}
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, net.ErrClosed) {
		// The connection was reset, which reading from it reports too, or the
		// opposite direction has closed it.
		return nil
	}
	return err
}

// Reset closes c so that its peer sees a reset instead of an end of stream,
// where the system has resets.
func Reset(c net.Conn) {
	_ = netx.SetLinger(c, 0) // if it fails, the close is an orderly one
	_ = c.Close()            // the connection is given up
}
