//go:build linux

package load

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// A socket is a blocking TCP socket over IPv4.
type socket int

// dial connects from an address; the zero Addr leaves the choice to the kernel.
func dial(from netip.Addr, to netip.AddrPort) (socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket: %w", err)
	}
	s := socket(fd)
	if err := s.connect(from, to); err != nil {
		return 0, errors.Join(err, s.close())
	}
	return s, nil
}

func (s socket) connect(from netip.Addr, to netip.AddrPort) error {
	fd, limit := int(s), unix.NsecToTimeval(timeout.Nanoseconds())
	err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit), // of connect too
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	)

	if from.IsValid() {
		// The port is chosen when the other end is known: the same one can then
		// be used towards several.
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}))
	}
	if err != nil {
		return fmt.Errorf("prepare a socket: %w", err)
	}

	for {
		err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		switch {
		case errors.Is(err, unix.EINTR): // Go's signals; the next call goes on waiting for the same
		case err != nil:
			return fmt.Errorf("connect to %v: %w", to, err)
		default:
			return nil
		}
	}
}

// ask writes all of request and reads an answer of the same size over it.
func (s socket) ask(request []byte) error {
	for b := request; len(b) > 0; {
		n, err := unix.Write(int(s), b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}

	for b := request; len(b) > 0; {
		n, err := unix.Read(int(s), b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
		default:
			b = b[n:]
		}
	}
	return nil
}

func (s socket) close() error { return unix.Close(int(s)) }

// onThreads lets so many goroutines block in system calls at once without
// waiting for each other to be scheduled.
func onThreads(n int) { runtime.GOMAXPROCS(max(n+1, runtime.NumCPU())) }
