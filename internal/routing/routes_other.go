//go:build !linux

package routing

import "net/netip"

// RoutesManaged tells whether this system's routes are set by Routes, or by
// the operator's own hand.
const RoutesManaged = false

// Blackhole does nothing here: the operator sets the routes.
func (r Routes) Blackhole() error { return nil }

// Attach does nothing here: the operator sets the routes.
func (r Routes) Attach(string) error { return nil }

// Remove does nothing here: the operator set the routes.
func (r Routes) Remove() (removed int, err error) { return 0, nil }

// UpstreamDevice is unknown here.
func UpstreamDevice(netip.Addr) string { return "" }

// Missing knows nothing here: the operator set the routes.
func (r Routes) Missing(string) ([]string, error) { return nil, nil }

// Remains knows nothing here.
func Remains(string) (there, prepared bool) { return false, false }
