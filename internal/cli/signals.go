package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signalGrace is for how long after the first signal others are part of it:
// timeout(1) signals the process and then its group, and a shell and a service
// manager may both pass one on.
const signalGrace = 500 * time.Millisecond

// notifyContext is a context that ends with the first SIGTERM or interrupt: the
// orderly end. From sameSignal later on, signals do what they do to any program,
// so that a second one ends it at once. The caller calls stop.
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
