//go:build !linux

package routing

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// RoutesManaged reports whether Routes set this system's routes, and not the
// operator.
const RoutesManaged = false

// InstallBlackholes does nothing: the operator sets the routes.
func (Routes) InstallBlackholes() error { return nil }

// Attach does nothing: the operator sets the routes.
func (Routes) Attach(string) error { return nil }

// Remove does nothing: the operator sets the routes.
func (Routes) Remove() (removed int, err error) { return 0, nil }

// Verify returns nothing: the operator sets the routes.
func (Routes) Verify(string) ([]string, error) { return nil, nil }

// RouteInterface returns "": the interface is unknown.
func RouteInterface(netip.Addr) string { return "" }

// Leftovers reports false.
func Leftovers(string) (exists, persistent bool) { return false, false }

// Install fails if there are ports.
func (h HostPorts) Install() (*PortReservation, error) {
	if len(h.addrs()) == 0 {
		return nil, nil
	}
	return nil, errors.New("ports of the host's own addresses can be hidden on Linux only; remove tun.local")
}

// Attach does nothing.
func (HostPorts) Attach(string) error { return nil }

// Remove does nothing.
func (HostPorts) Remove() (removed int, err error) { return 0, nil }

// Verify returns nothing.
func (HostPorts) Verify(string) ([]string, error) { return nil, nil }

// UnavailableAddrs returns nothing.
func (HostPorts) UnavailableAddrs() ([]string, error) { return nil, nil }

func (HostPorts) installRules() error { return nil }

// A PortReservation exists on Linux only.
type PortReservation struct{}

// Close does nothing.
func (*PortReservation) Close() error { return nil }

// Restore is not supported.
func (ProtectedSet) Restore(int) error { return errors.ErrUnsupported }

// Installed is not supported.
func Installed() (ProtectedSet, error) { return ProtectedSet{}, errors.ErrUnsupported }

// A RouteMonitor receives no changes.
type RouteMonitor struct{}

// NewRouteMonitor returns a RouteMonitor.
func NewRouteMonitor() (*RouteMonitor, error) { return &RouteMonitor{}, nil }

// Wait returns true after the timeout, and false when ctx ends.
func (*RouteMonitor) Wait(ctx context.Context, timeout time.Duration) (bool, error) {
	select {
	case <-time.After(timeout):
		return true, nil
	case <-ctx.Done():
		return false, nil
	}
}

// Close does nothing.
func (*RouteMonitor) Close() error { return nil }
