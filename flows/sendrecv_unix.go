//go:build unix && !linux

package flows

import (
	"errors"
	"syscall"
)

// recv and send read from and write to a nonblocking descriptor.

func recv(fd uintptr, b []byte) (n int, err syscall.Errno) {
	return retryEINTR(func() (int, error) { return syscall.Read(int(fd), b) })
}

func send(fd uintptr, b []byte) (n int, err syscall.Errno) {
	return retryEINTR(func() (int, error) { return syscall.Write(int(fd), b) })
}

func retryEINTR(call func() (int, error)) (int, syscall.Errno) {
	for {
		n, err := call()
		var errno syscall.Errno
		switch {
		case err == nil:
			return n, 0
		case !errors.As(err, &errno):
			return 0, syscall.EIO
		case errno != syscall.EINTR:
			return 0, errno
		}
	}
}
