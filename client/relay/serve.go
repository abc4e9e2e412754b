package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Options are the options of Serve.
type Options struct {
	// Listener is where the application connects to. Required; Serve closes it.
	Listener net.Listener
	// Dial makes the service's connection. It is called once for each of the application's, concurrently.
	// Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// MaxConns and Drain are an Acceptor's.
	MaxConns int
	Drain    time.Duration
	// Report, if not nil, is called at the end of each connection, concurrently.
	Report func(End)
	// Retrying is an Acceptor's.
	Retrying func(error)
}

// End is what became of a connection.
type End struct {
	From    net.Addr      // the application's address
	Dialled bool          // whether the service was reached
	Moved   Moved         // what went each way
	Took    time.Duration // from accepting to the end
	Err     error         // nil after an ordinary end; otherwise Dial's error, or why it broke off
}

// ErrOptions says that options lack something; the error that wraps it says what.
var ErrOptions = errors.New("relay: bad options")

// Serve joins every connection that comes to a listener with one of its own to the service. An application
// whose service cannot be reached sees its connection reset.
//
// It returns when ctx ends, after the connections had their time to drain; or when accepting fails for good,
// with that error.
func Serve(ctx context.Context, o Options) error {
	if o.Listener == nil || o.Dial == nil {
		return fmt.Errorf("%w: set Listener and Dial", ErrOptions)
	}
	if o.Report == nil {
		o.Report = func(End) {}
	}
	var r Relay
	a := Acceptor{Listener: o.Listener, MaxConns: o.MaxConns, Drain: o.Drain, Retrying: o.Retrying}
	return a.Each(ctx, func(ctx context.Context, near net.Conn) {
		start := time.Now()
		end := End{From: near.RemoteAddr()}
		far, err := o.Dial(ctx)
		if err != nil {
			Reset(near)
			end.Err = err
		} else {
			end.Dialled = true
			end.Moved, end.Err = r.Join(ctx, near, far)
		}
		end.Took = time.Since(start)
		o.Report(end)
	})
}
