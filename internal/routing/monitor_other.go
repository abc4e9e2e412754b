//go:build !linux

package routing

import (
	"context"
	"time"
)

// RouteMonitor is of Linux only.
type RouteMonitor struct{}

// NewRouteMonitor hears nothing here.
func NewRouteMonitor() (*RouteMonitor, error) { return &RouteMonitor{}, nil }

// Wait returns true after the time, and false when ctx has ended.
func (*RouteMonitor) Wait(ctx context.Context, most time.Duration) (bool, error) {
	select {
	case <-time.After(most):
		return true, nil
	case <-ctx.Done():
		return false, nil
	}
}

// Close does nothing here.
func (*RouteMonitor) Close() error { return nil }
