//go:build !linux

package bypass

import "errors"

// Read is of Linux only.
func Read(*Protected) (*State, error) { return nil, errors.ErrUnsupported }

// With is of Linux only.
func (s *State) With(*Protected) *State { return s }
