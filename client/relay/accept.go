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
	// DefaultMaxConns limits the concurrent connections: each takes two file
	// descriptors, and a process often has 4096.
	DefaultMaxConns = 1024

	// DefaultDrain is how long connections may continue after ctx has ended:
	// long enough for a query or a page, shorter than the time after which
	// service managers kill a process (90 s with systemd).
	DefaultDrain = 30 * time.Second
)

// Backoff between calls of Accept after a temporary error, such as having no
// file descriptors left. The delay doubles each time.
const (
	minRetryDelay = 5 * time.Millisecond
	maxRetryDelay = time.Second
)

// ErrDrained is the cause of the context of connections that were still open at
// the end of the drain period.
var ErrDrained = errors.New("closed at the end of the drain period")

// Acceptor calls a function for each connection of a listener.
type Acceptor struct {
	// Listener is where connections come from. Required. Serve closes it.
	Listener net.Listener
	// MaxConns limits the concurrent connections; 0 means DefaultMaxConns.
	// Beyond the limit, connections wait to be accepted.
	MaxConns int
	// Drain is how long connections may continue after ctx has ended; 0 means
	// DefaultDrain, and a negative value means no time at all.
	Drain time.Duration
	// OnRetry, if not nil, is called with each temporary error of Accept.
	OnRetry func(error)
}

// Serve accepts connections, and calls handle for each in its own goroutine,
// until ctx ends or Accept fails permanently. handle owns the connection and
// must close it. It should return soon after its context has ended, which
// happens Drain after the end of ctx, with [ErrDrained] as the cause.
//
// Serve returns when all calls of handle have returned: nil if ctx has ended,
// else the error of Accept.
func (a Acceptor) Serve(ctx context.Context, handle func(ctx context.Context, conn net.Conn)) error {
	slots := make(chan struct{}, orDefault(a.MaxConns, DefaultMaxConns))
	connCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)

	release := ctxutil.AfterFunc(ctx, func() { _ = a.Listener.Close() }) // Accept reports the error
	var wg sync.WaitGroup
	err := a.acceptAll(ctx, slots, func(conn net.Conn) {
		wg.Go(func() {
			defer func() { <-slots }()
			handle(connCtx, conn)
		})
	})
	release()
	_ = a.Listener.Close() // it has failed, or is closed already

	drain := orDefault(a.Drain, DefaultDrain)
	timer := time.AfterFunc(drain, func() { cancel(ErrDrained) })
	defer timer.Stop()
	wg.Wait()
	return err
}

// acceptAll acquires a slot for each connection and passes it to start, until
// ctx ends or Accept fails permanently.
func (a Acceptor) acceptAll(ctx context.Context, slots chan struct{}, start func(net.Conn)) error {
	delay := minRetryDelay
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := a.Listener.Accept()
		if err == nil {
			delay = minRetryDelay
			start(conn)
			continue
		}

		<-slots
		if ctx.Err() != nil {
			return nil
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		if a.OnRetry != nil {
			a.OnRetry(err)
		}
		select {
		case <-time.After(delay):
			delay = min(2*delay, maxRetryDelay)
		case <-ctx.Done():
			return nil
		}
	}
}

// orDefault returns v, or def if v is 0.
func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
