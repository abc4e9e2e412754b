package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/knockgw/knockgw/internal/ctxutil"
)

// bufferSize is how many bytes one step moves where the kernel does not move them by itself: what a pipe
// holds, and a super-packet of the kernel's.
const bufferSize = 64 << 10

// Moved is how many bytes went each way.
type Moved struct {
	Up   int64 // from the application to the service
	Down int64 // from the service to the application
}

// A Relay joins connections. The zero value is ready. It is safe for concurrent use, and keeps buffers from
// one use to the next.
type Relay struct {
	buffers sync.Pool // of *[]byte, bufferSize bytes each
}

// Join moves bytes between near, the application's connection, and far, the service's, until both ways have
// ended, one of the connections fails, or ctx ends. It owns both and has closed them when it returns; nothing
// of it runs then.
//
// The end of what comes from one is passed on with the other's CloseWrite, and the other way goes on; a
// connection that has no CloseWrite is closed instead. After a failure, or the end of ctx, both are reset. The
// error is the first one, or the cause of ctx; an ordinary end is none, and that of an application that has
// ended its way and does not read the rest is an ordinary one.
func (r *Relay) Join(ctx context.Context, near, far net.Conn) (Moved, error) {
	var (
		moved Moved
		first error
		once  sync.Once
		wg    sync.WaitGroup
	)
	fail := func(err error) {
		once.Do(func() {
			first = err
			Reset(near)
			Reset(far)
		})
	}
	release := ctxutil.Done(ctx, func() { fail(context.Cause(ctx)) })
	var ended atomic.Bool // the application has ended its way, and the service was told
	wg.Go(func() {
		n, err := r.pump(far, near)
		if moved.Up = n; err != nil {
			fail(fmt.Errorf("to the service: %w", err))
			return
		}
		ended.Store(true)
	})
	n, err := r.pump(near, far)
	moved.Down = n
	switch {
	case err != nil && ended.Load() && isClosedByPeer(err):
		fail(nil)
	case err != nil:
		fail(fmt.Errorf("from the service: %w", err))
	}
	wg.Wait()
	release()
	once.Do(func() {
		// Both ways have ended and were told so: closing has nothing to add, and nothing to say.
		_ = near.Close()
		_ = far.Close()
	})
	return moved, first
}

// isClosedByPeer reports whether err is of writing to a connection that its
// other end has closed. An application that has sent its last byte and closes
// does not want what the service still says, such as the close_notify of a TLS
// session: that is an ordinary end. The kernel says EPIPE of a connection whose
// end had come before it was reset, of any other ECONNRESET.
func isClosedByPeer(err error) bool {
	if errors.Is(err, syscall.EPIPE) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write" && errors.Is(err, syscall.ECONNRESET)
}

// Join is Relay.Join for a single use.
func Join(ctx context.Context, near, far net.Conn) (Moved, error) {
	var r Relay
	return r.Join(ctx, near, far)
}

// pump moves bytes from src to dst until src ends, and passes the end on.
func (r *Relay) pump(dst, src net.Conn) (int64, error) {
	n, err := r.move(dst, src)
	if err != nil {
		return n, err
	}
	return n, endWriting(dst)
}

// move is io.Copy, by the kernel alone where it can do that, and otherwise with a pooled buffer.
func (r *Relay) move(dst, src net.Conn) (int64, error) {
	if spliced(dst) && spliced(src) {
		return io.Copy(dst, src)
	}
	b, ok := r.buffers.Get().(*[]byte)
	if !ok {
		b = new([]byte)
		*b = make([]byte, bufferSize)
	}
	defer r.buffers.Put(b)
	// Their own ways of copying are kept from io: they would take a buffer of their own.
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *b)
}

// spliced tells whether the kernel moves bytes between such connections (on Linux).
func spliced(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

// endWriting tells the other end of c that no more will come.
func endWriting(c net.Conn) error {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return c.Close()
	}
	err := half.CloseWrite()
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, net.ErrClosed) {
		// Somebody was faster: it was reset, which reading from it says too, or had ended the other way.
		return nil
	}
	return err
}

// Reset closes c so that its other end sees a reset rather than an end, where the system has such a thing.
func Reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // without it the close is an ordinary one, and there is nothing else to do
	}
	_ = c.Close() // it is being thrown away
}
