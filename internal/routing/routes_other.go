//go:build !linux

package routing

import "net/netip"

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
