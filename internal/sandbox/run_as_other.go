//go:build !linux

package sandbox

import "errors"

// RunAs is not to be had on this system: errors.ErrUnsupported.
func RunAs(*Account, func() error) error { return errors.ErrUnsupported }

// Filters tells whether Enter has the kernel refuse system calls: not on this system.
func Filters() bool { return false }
