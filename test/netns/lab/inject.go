//go:build linux

package lab

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Inject sends a whole IP packet, header included, from the host: whatever an attacker may send. Of an IPv4
// header the kernel fills in checksum and total length, and nothing else of either version.
func (h *Host) Inject(dst netip.Addr, packet []byte) error {
	return h.ns.Do(func() error {
		domain := unix.AF_INET
		var to unix.Sockaddr = &unix.SockaddrInet4{Addr: to4(dst)}
		if dst.Is6() {
			domain = unix.AF_INET6
			to = &unix.SockaddrInet6{Addr: dst.As16()}
		}
		// IPPROTO_RAW: the header is ours in both families.
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("%s: open a raw socket: %w", h.Name, err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Sendto(fd, packet, 0, to); err != nil {
			return fmt.Errorf("%s: send a raw packet to %v: %w", h.Name, dst, err)
		}
		return nil
	})
}

func to4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}
