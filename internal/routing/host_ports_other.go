//go:build !linux

package routing

import "errors"

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
