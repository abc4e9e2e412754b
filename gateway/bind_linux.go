package gateway

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bindToDevice has connections leave by one interface (SO_BINDTODEVICE).
func bindToDevice(name string) (func(network, address string, c syscall.RawConn) error, error) {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) }); cerr != nil {
			return cerr
		}
		return err
	}, nil
}
