package netlab

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// RawSocket opens a socket of the calling thread's namespace that sends whole IP
// packets of the family of to, and connects it there: the destination is to,
// whatever the headers say. Of an IPv4 header the kernel fills in the checksum
// and the total length.
func RawSocket(to netip.Addr) (fd int, err error) {
	fd, err = rawSocket(to)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, Sockaddr(to, 0)); err != nil {
		return 0, errors.Join(fmt.Errorf("connect a raw socket to %v: %w", to, err), unix.Close(fd))
	}
	return fd, nil
}

// rawSocket opens the socket without a destination.
func rawSocket(to netip.Addr) (int, error) {
	domain := unix.AF_INET
	if to.Is6() {
		domain = unix.AF_INET6
	}
	// IPPROTO_RAW: the header is the caller's in both families.
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return 0, fmt.Errorf("open a raw socket: %w", err)
	}
	return fd, nil
}

// Sockaddr returns an address for the socket calls.
func Sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is6() {
		return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
	}
	to := &unix.SockaddrInet4{Port: int(port)}
	if a.Is4() {
		to.Addr = a.As4()
	}
	return to
}

// Inject sends one IP packet, header included, from the host.
func (h *Host) Inject(dst netip.Addr, packet []byte) error {
	return h.Do(func() error {
		fd, err := rawSocket(dst)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Sendto(fd, packet, 0, Sockaddr(dst, 0)); err != nil {
			return fmt.Errorf("%s: send a raw packet to %v: %w", h.Name, dst, err)
		}
		return nil
	})
}
