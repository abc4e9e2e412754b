//go:build !linux

package sandbox

import "errors"

// RunAs is not supported: errors.ErrUnsupported.
func RunAs(*Account, func() error) error { return errors.ErrUnsupported }

// Filters reports whether Enter filters system calls: not on this system.
func Filters() bool { return false }
