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

// An existing device was created by a process with the necessary privileges: a
// persistent interface that the user of this process owns (ip tuntap add ...
// user), or an open descriptor. Using it takes no privileges, and nothing of it
// is changed but the header of the packets that this process reads and writes.

// cloneDevicePath is opened for a new descriptor, before TUNSETIFF selects an
// interface.
const cloneDevicePath = "/dev/net/tun"

// requiredFlags are the flags of an interface whose packets have the format that
// Device reads and writes.
const requiredFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// openExisting opens an existing interface.
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
		} // or else it may belong to the runtime, or be the one that errors are written to
		return nil, err
	}
	wg, _, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	return wg, err
}

// openPersistent opens the persistent interface of that name. It checks that
// there is one, because TUNSETIFF creates it for a process that has the
// privileges.
func openPersistent(name string) (fd int, err error) {
	if _, err := net.InterfaceByName(name); err != nil {
		return -1, fmt.Errorf("%w; create it: ip tuntap add dev %s mode tun user USER", err, name)
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

// checkFlags rejects a descriptor whose packets have another format.
func checkFlags(fd int) error {
	var request unix.Ifreq
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, &request); err != nil {
		return fmt.Errorf("descriptor %d is not a TUN interface: %w", fd, err)
	}
	if have := request.Uint16(); have&requiredFlags != requiredFlags {
		return fmt.Errorf("descriptor %d: the interface has flags %#x; open it with IFF_TUN, IFF_NO_PI and IFF_VNET_HDR", fd, have)
	}
	// An earlier owner of a persistent interface may have chosen another header
	// size.
	return os.NewSyscallError("TUNSETVNETHDRSZ", unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, virtioHeaderSize))
}
