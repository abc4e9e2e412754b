package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/knockgw/knockgw/client/relay"
	"github.com/knockgw/knockgw/internal/netx"
)

// errInterrupted is why a command ended that a signal has ended.
var errInterrupted = errors.New("interrupted")

// relayStdio copies in to conn and conn to out until conn ends, one of them fails, or ctx ends. The end of in is
// passed on, and the answer to it still comes. Closing in and out must wake a Read and a Write that wait: join
// owns and closes all three, and nothing of it runs when it returns.
func relayStdio(ctx context.Context, conn net.Conn, in io.ReadCloser, out io.WriteCloser) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		relay.Reset(conn)
		_ = in.Close()
		_ = out.Close()
	})
	var sending error // once sent is closed
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		sending = send(conn, in)
	}()

	_, received := io.Copy(out, struct{ io.Reader }{conn})
	// When the service has ended, so have we: somebody may sit before an input that does not end.
	var failed error
	select {
	case <-sent:
		failed = sending
	default:
		_ = in.Close()
		_ = conn.Close() // in case that send waits for it
		<-sent           // what it says now is our own doing
	}
	if !stop() {
		<-interrupted
		return errInterrupted
	}
	_ = in.Close()
	_ = conn.Close() // both ways have ended, or failed already
	closing := out.Close()
	switch {
	case received != nil:
		return fmt.Errorf("receive: %w", received)
	case failed != nil:
		return fmt.Errorf("send: %w", failed)
	case closing != nil:
		return fmt.Errorf("receive: %w", closing)
	}
	return nil
}

// send copies in to conn, and passes the end of it on.
func send(conn net.Conn, in io.Reader) error {
	if _, err := io.Copy(conn, struct{ io.Reader }{in}); err != nil {
		return err
	}
	err := netx.CloseWrite(conn)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.ENOTCONN) {
		return nil // the second means that it has ended, which the opposite direction reports
	}
	return err
}
