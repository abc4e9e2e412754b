package tun

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// detachFilter is the descriptor that detaches a filter.
const detachFilter = -1

// AttachFilter implements FilterAttacher. The kernel holds a reference to the
// program, so that fd may be closed.
func (d *device) AttachFilter(fd int) error {
	var ioctl error
	if err := d.raw.Control(func(device uintptr) {
		ioctl = unix.IoctlSetPointerInt(int(device), unix.TUNSETFILTEREBPF, fd)
	}); err != nil {
		return err
	}
	if ioctl != nil {
		return fmt.Errorf("attach a packet filter to TUN device %s: %w", d.info.Name, ioctl)
	}
	return nil
}
