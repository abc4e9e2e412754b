//go:build !linux

package routing

import "errors"

// A Guard is of Linux only.
type Guard struct{}

// Close does nothing here.
func (*Guard) Close() error { return nil }

// Hide is of Linux only.
func (l Local) Hide() (*Guard, error) {
	if len(l.addrs()) == 0 {
		return nil, nil
	}
	return nil, errors.New("ports of the host's own addresses can be hidden on Linux only; remove tun.local")
}

// Attach does nothing here.
func (l Local) Attach(string) error { return nil }

// Remove does nothing here.
func (l Local) Remove() (removed int, err error) { return 0, nil }

// Absent knows nothing here.
func (l Local) Absent() ([]string, error) { return nil, nil }

// Missing knows nothing here.
func (l Local) Missing(string) ([]string, error) { return nil, nil }
