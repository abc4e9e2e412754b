//go:build !linux

package routing

import (
	"context"
	"time"
)

// Changes is of Linux only.
type Changes struct{}

// ListenChanges hears nothing here.
func ListenChanges() (*Changes, error) { return &Changes{}, nil }

// Wait returns true after the time, and false when ctx has ended.
func (*Changes) Wait(ctx context.Context, most time.Duration) (bool, error) {
	select {
	case <-time.After(most):
		return true, nil
	case <-ctx.Done():
		return false, nil
	}
}

// Close does nothing here.
func (*Changes) Close() error { return nil }
