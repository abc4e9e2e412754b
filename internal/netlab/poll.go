package netlab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Wait says how long to wait, and at which intervals to look.
type Wait struct {
	Timeout, Interval time.Duration
	For               string // completes "waited for"
}

// ErrTimeout is Poll's error after the timeout.
var ErrTimeout = errors.New("timed out")

// Poll calls done until it returns true or an error, or until ctx ends.
func Poll(ctx context.Context, w Wait, done func() (bool, error)) error {
	for end := time.Now().Add(w.Timeout); ; {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: waited %v for %s", ErrTimeout, w.Timeout, w.For)
		}
		if err := Sleep(ctx, w.Interval); err != nil {
			return err
		}
	}
}

// Sleep is time.Sleep that ends with ctx, whose cause it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
