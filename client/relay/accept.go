package relay

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/ctxutil"
)

const (
	// DefaultMaxConns bounds the connections at once: two descriptors each, of which a process often has 4096.
	DefaultMaxConns = 1024
	// DefaultDrain is how long connections may go on after the end was asked for: long enough for a query or
	// a page, shorter than what service managers wait before they kill (90 s with systemd).
	DefaultDrain = 30 * time.Second
)

// What to do when accepting fails for a while, as it does when there are no file descriptors left.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = time.Second
)

// An Acceptor has a function serve each connection of a listener.
type Acceptor struct {
	// Listener is where connections come from. Required; Each closes it.
	Listener net.Listener
	// MaxConns bounds the connections at once; 0 means DefaultMaxConns. Beyond it, they wait to be accepted.
	MaxConns int
	// Drain is how long connections may go on when ctx has ended; 0 means DefaultDrain, and less not at all.
	Drain time.Duration
	// Retrying, if not nil, is told of errors in accepting that may pass.
	Retrying func(error)
}

// Each accepts, and calls serve for every connection in a goroutine of its own, until ctx ends or accepting
// fails for good. serve owns the connection and must close it; it should return soon after its context has
// ended, which comes Drain later than the end of ctx. Each returns when all of them have: nil if ctx ended it.
func (a Acceptor) Each(ctx context.Context, serve func(ctx context.Context, conn net.Conn)) error {
	slots := make(chan struct{}, or(a.MaxConns, DefaultMaxConns))
	live, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	release := ctxutil.Done(ctx, func() { _ = a.Listener.Close() }) // wakes Accept, which says so
	var running sync.WaitGroup
	failure := a.acceptAll(ctx, slots, func(conn net.Conn) {
		running.Go(func() {
			defer func() { <-slots }()
			serve(live, conn)
		})
	})
	release()
	_ = a.Listener.Close() // it has failed, or is closed already
	drain := or(a.Drain, DefaultDrain)
	timer := time.AfterFunc(drain, func() { end(ErrDrained) })
	defer timer.Stop()
	running.Wait()
	return failure
}

// ErrDrained is why connections ended that had not by themselves when the time for that was over.
var ErrDrained = errors.New("ended with the listener")

// acceptAll hands connections on, each with a slot, until there will be no more.
func (a Acceptor) acceptAll(ctx context.Context, slots chan struct{}, hand func(net.Conn)) error {
	retry := firstRetry
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := a.Listener.Accept()
		if err == nil {
			retry = firstRetry
			hand(conn)
			continue
		}
		<-slots
		if ctx.Err() != nil {
			return nil
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return err
		}
		if a.Retrying != nil {
			a.Retrying(err)
		}
		select {
		case <-time.After(retry):
			retry = min(2*retry, lastRetry)
		case <-ctx.Done():
			return nil
		}
	}
}

// or is v, or what stands for 0.
func or[T int | time.Duration](v, unset T) T {
	if v == 0 {
		return unset
	}
	return v
}
