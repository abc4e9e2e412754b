//go:build !linux

package routing

import "errors"

// Restore is of Linux only.
func (h Hold) Restore(int) error { return errors.ErrUnsupported }

// Installed is of Linux only.
func Installed() (Hold, error) { return Hold{}, errors.ErrUnsupported }

func (l Local) silence() error { return nil }
