//go:build !unix

package sandbox

import "errors"

// Enter is not to be had on this system: errors.ErrUnsupported.
func Enter(Options) error { return errors.ErrUnsupported }
