package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// A prepared device is somebody else's who had the privileges: a persistent
// interface that this process's user owns (ip tuntap add ... user), or an open
// descriptor. Using one takes no privilege, and nothing of it is changed but what
// its packets look like to us.

// cloneDevicePath is what a descriptor of an interface begins as.
const cloneDevicePath = "/dev/net/tun"

// requiredFlags are those of an interface whose packets are as Device has them.
const requiredFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// openExisting takes the interface that is there.
func openExisting(o Options) (wgtun.Device, error) {
	fd := o.FD
	if fd == 0 {
		var err error
		if fd, err = openPersistent(o.Name); err != nil {
			return nil, err
		}
	}
	if err := checkFlags(fd); err != nil {
		if o.FD == 0 {
			err = errors.Join(err, unix.Close(fd))
		} // or else it may be anybody's: what the error is written to, or the runtime's
		return nil, err
	}
	wg, _, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	return wg, err
}

// openPersistent joins the persistent interface of that name. The kernel would
// make one that is not there, for those who may.
func openPersistent(name string) (fd int, err error) {
	if _, err := net.InterfaceByName(name); err != nil {
		return -1, fmt.Errorf("%w; prepare it: ip tuntap add dev %s mode tun user USER", err, name)
	}
	fd, err = unix.Open(cloneDevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrPermission) {
		return -1, fmt.Errorf("%s: %w; this user must be able to read and write it", cloneDevicePath, err)
	}
	if err != nil {
		return -1, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(requiredFlags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// checkFlags refuses a descriptor whose packets are not as Device has them.
func checkFlags(fd int) error {
	var request unix.Ifreq
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, &request); err != nil {
		return fmt.Errorf("descriptor %d is not that of a TUN interface: %w", fd, err)
	}
	if have := request.Uint16(); have&requiredFlags != requiredFlags {
		return fmt.Errorf("descriptor %d: the interface has flags %#x; open it with IFF_TUN, IFF_NO_PI and IFF_VNET_HDR", fd, have)
	}
	// Whoever had a persistent interface before may have chosen another header.
	return os.NewSyscallError("TUNSETVNETHDRSZ", unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, virtioHeaderSize))
}
