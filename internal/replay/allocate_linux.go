package replay

import (
	"errors"
	"os"
	"syscall"
)

// allocate reserves blocks with fallocate(2), or by writing zeros if the file
// system does not support it.
func allocate(f *os.File, off, n int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, off, n)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM):
			return writeZeros(f, off, n)
		default:
			return err
		}
	}
}
