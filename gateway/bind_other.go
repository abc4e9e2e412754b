//go:build !linux

package gateway

import (
	"errors"
	"syscall"
)

// bindToDevice is Linux's.
func bindToDevice(string) (func(network, address string, c syscall.RawConn) error, error) {
	return nil, errors.New("upstream_device works on Linux only")
}
