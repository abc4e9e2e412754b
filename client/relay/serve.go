package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Options are the options of [Serve].
type Options struct {
	// Listener is what the application connects to. Required. Serve closes it.
	Listener net.Listener
	// Dial connects to the service. It is called once for each connection of the
	// application, concurrently. Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// MaxConns and Drain are those of an [Acceptor].
	MaxConns int
	Drain    time.Duration
	// Report, if not nil, is called at the end of each connection, concurrently.
	Report func(Result)
	// OnRetry is that of an [Acceptor].
	OnRetry func(error)
}

// Result describes a connection that has ended.
type Result struct {
	From    net.Addr      // the application's address
	Dialled bool          // whether the service was reached
	Stats   Stats         // the bytes of both directions
	Elapsed time.Duration // from Accept to the end
	Err     error         // nil after an orderly end; else the error of Dial or of Copy
}

// ErrOptions reports options that are incomplete. The error that wraps it says
// what is missing.
var ErrOptions = errors.New("relay: invalid options")

// Serve connects every connection of a listener to the service, and relays until
// either ends. If the service cannot be reached, the application's connection is
// reset.
//
// Serve returns when ctx has ended and the connections have drained, or when
// accepting fails permanently, with that error.
func Serve(ctx context.Context, o Options) error {
	if o.Listener == nil || o.Dial == nil {
		return fmt.Errorf("%w: set Listener and Dial", ErrOptions)
	}
	if o.Report == nil {
		o.Report = func(Result) {}
	}
	var r Relay
	a := Acceptor{Listener: o.Listener, MaxConns: o.MaxConns, Drain: o.Drain, OnRetry: o.OnRetry}
	return a.Serve(ctx, func(ctx context.Context, app net.Conn) {
		start := time.Now()
		result := Result{From: app.RemoteAddr()}
		service, err := o.Dial(ctx)
		if err != nil {
			Reset(app)
			result.Err = err
		} else {
			result.Dialled = true
			result.Stats, result.Err = r.Copy(ctx, app, service)
		}
		result.Elapsed = time.Since(start)
		o.Report(result)
	})
}
