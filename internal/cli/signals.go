package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signalGrace is how long after the first signal further ones count as the same:
// timeout(1) signals the process and then its group, and a shell and a service
// manager may both forward one.
const signalGrace = 500 * time.Millisecond

// notifyContext returns a context that ends with the first SIGTERM or
// interrupt, for a regular shutdown. After signalGrace, signals have their
// default action, so that a second one kills the process. The caller must call
// stop.
func notifyContext() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})

	go func() {
		defer close(ended)
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-done:
			return
		}
		cancel()
		timer := time.NewTimer(signalGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-done:
		}
	}()

	return ctx, func() {
		close(done)
		<-ended
		cancel()
	}
}
