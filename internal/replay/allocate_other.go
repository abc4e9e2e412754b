//go:build !linux

package replay

import "os"

// allocate reserves blocks by writing zeros.
func allocate(f *os.File, off, n int64) error { return writeZeros(f, off, n) }
