//go:build !unix

package sandbox

import "errors"

// Enter is not supported: errors.ErrUnsupported.
func Enter(Options) error { return errors.ErrUnsupported }
