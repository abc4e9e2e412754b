//go:build !linux

package bypass

import "errors"

// Read is not supported.
func Read(*Protected) (*State, error) { return nil, errors.ErrUnsupported }

// With returns s: routes are not managed.
func (s *State) With(*Protected) *State { return s }
