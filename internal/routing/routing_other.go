//go:build !linux

package routing

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// A PortReservation is of Linux only.
type PortReservation struct{}

// Close does nothing here.
func (*PortReservation) Close() error { return nil }

// Install is of Linux only.
func (l HostPorts) Install() (*PortReservation, error) {
	if len(l.addrs()) == 0 {
		return nil, nil
	}
	return nil, errors.New("ports of the host's own addresses can be hidden on Linux only; remove tun.local")
}

// Attach does nothing here.
func (l HostPorts) Attach(string) error { return nil }

// Remove does nothing here.
func (l HostPorts) Remove() (removed int, err error) { return 0, nil }

// UnavailableAddrs knows nothing here.
func (l HostPorts) UnavailableAddrs() ([]string, error) { return nil, nil }

// Verify knows nothing here.
func (l HostPorts) Verify(string) ([]string, error) { return nil, nil }

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

// Restore is of Linux only.
func (h ProtectedSet) Restore(int) error { return errors.ErrUnsupported }

// Installed is of Linux only.
func Installed() (ProtectedSet, error) { return ProtectedSet{}, errors.ErrUnsupported }

func (l HostPorts) installRules() error { return nil }

// RoutesManaged tells whether this system's routes are set by Routes, or by
// the operator's own hand.
const RoutesManaged = false

// InstallBlackholes does nothing here: the operator sets the routes.
func (r Routes) InstallBlackholes() error { return nil }

// Attach does nothing here: the operator sets the routes.
func (r Routes) Attach(string) error { return nil }

// Remove does nothing here: the operator set the routes.
func (r Routes) Remove() (removed int, err error) { return 0, nil }

// RouteInterface is unknown here.
func RouteInterface(netip.Addr) string { return "" }

// Verify knows nothing here: the operator set the routes.
func (r Routes) Verify(string) ([]string, error) { return nil, nil }

// Leftovers knows nothing here.
func Leftovers(string) (there, prepared bool) { return false, false }
