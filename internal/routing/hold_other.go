//go:build !linux

package routing

import "errors"

// Restore is of Linux only.
func (h ProtectedSet) Restore(int) error { return errors.ErrUnsupported }

// Installed is of Linux only.
func Installed() (ProtectedSet, error) { return ProtectedSet{}, errors.ErrUnsupported }

func (l HostPorts) installRules() error { return nil }
