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

// errInterrupted reports that a signal ended the command.
var errInterrupted = errors.New("interrupted")

// relayStdio copies in to conn and conn to out until conn ends, one of them
// fails, or ctx ends. The end of in is passed on, and the service can still
// answer. Closing in and out must interrupt a blocked Read or Write: relayStdio
// owns and closes all three, and none of its goroutines is running when it
// returns.
func relayStdio(ctx context.Context, conn net.Conn, in io.ReadCloser, out io.WriteCloser) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		relay.Reset(conn)
		_ = in.Close()
		_ = out.Close()
	})
	var sendErr error // valid when sent is closed
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		sendErr = send(conn, in)
	}()

	_, recvErr := io.Copy(out, struct{ io.Reader }{conn})

	// The end of the service ends the command: the input may be a terminal.
	var failed error
	select {
	case <-sent:
		failed = sendErr
	default:
		_ = in.Close()
		_ = conn.Close() // send may be blocked in a write
		<-sent           // its error is from closing
	}

	if !stop() {
		<-interrupted
		return errInterrupted
	}
	_ = in.Close()
	_ = conn.Close() // both directions have ended or failed
	closeErr := out.Close()
	switch {
	case recvErr != nil:
		return fmt.Errorf("receive: %w", recvErr)
	case failed != nil:
		return fmt.Errorf("send: %w", failed)
	case closeErr != nil:
		return fmt.Errorf("receive: %w", closeErr)
	}
	return nil
}

// send copies in to conn, and passes the end of the input on.
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
