package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A PortReservation holds the hidden ports of the host with sockets that
// receive nothing: a filter drops each packet before TCP or UDP answers it. The
// host sends neither a reset nor an ICMP error, and no other process can listen
// on the ports.
type PortReservation struct {
	fds []int
}

// reservePorts reserves the ports. It fails if another process listens on one.
func (h HostPorts) reservePorts() (*PortReservation, error) {
	r := &PortReservation{}
	for _, p := range h.Ports {
		if err := errors.Join(r.reserve(p, unix.SOCK_STREAM), r.reserve(p, unix.SOCK_DGRAM)); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	for _, p := range h.UDP {
		if err := r.reserve(p, unix.SOCK_DGRAM); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// reserve opens one socket. Its filter is attached before it is bound, so that
// it never answers.
func (r *PortReservation) reserve(p netip.AddrPort, kind int) error {
	family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(p.Port())})
	if p.Addr().Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(p.Port()), Addr: p.Addr().As16()}
	} else {
		address.(*unix.SockaddrInet4).Addr = p.Addr().As4()
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return reserveError(p, kind, os.NewSyscallError("socket", err))
	}
	r.fds = append(r.fds, fd)

	dropAll := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}} // keeps 0 bytes of each packet
	program := &unix.SockFprog{Len: uint16(len(dropAll)), Filter: &dropAll[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program); err != nil {
		return reserveError(p, kind, os.NewSyscallError("setsockopt", err))
	}
	if kind == unix.SOCK_STREAM {
		// Earlier connections in TIME_WAIT must not prevent the start.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return reserveError(p, kind, os.NewSyscallError("setsockopt", err))
		}
	}

	// The address may be added later, such as by DHCP, or be tentative.
	if err := freebind(fd, p.Addr().Is6()); err != nil {
		return reserveError(p, kind, os.NewSyscallError("setsockopt", err))
	}

	if err := unix.Bind(fd, address); err != nil {
		return reserveError(p, kind, os.NewSyscallError("bind", err))
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 1); err != nil {
			return reserveError(p, kind, os.NewSyscallError("listen", err))
		}
	}
	return nil
}

// freebind permits binding a socket to an address that no interface has.
func freebind(fd int, v6 bool) error {
	if v6 {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
}

func reserveError(p netip.AddrPort, kind int, err error) error {
	protocol := "TCP"
	if kind == unix.SOCK_DGRAM {
		protocol = "UDP"
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("hide %s port %s of this host: another process listens on it; "+
			"make that listen on another address only, such as 127.0.0.1:%d, and use that as the upstream", protocol, p, p.Port())
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("hide %s port %s of this host: %w; run as root or with CAP_NET_BIND_SERVICE", protocol, p, err)
	default:
		return fmt.Errorf("hide %s port %s of this host: %w", protocol, p, err)
	}
}

// Close releases the ports. The rules still keep the host from answering for
// them.
func (r *PortReservation) Close() error {
	if r == nil {
		return nil
	}
	var err error
	for _, fd := range r.fds {
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
	}
	r.fds = nil
	return err
}
