package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/netlab"
)

const (
	// quietPeriod is how long a scan waits for answers: an ordinary host of the
	// lab answers within a millisecond.
	quietPeriod = 400 * time.Millisecond
	// After burst probes the sender waits for burstPause, so that the reader
	// catches up: the TUN device's queue holds 1000.
	burst      = 64
	burstPause = time.Millisecond
)

// A scan probes every port of every address with every technique; connect() is
// slow and is used for a few ports.
type scan struct {
	from         *netlab.Host
	capture      *capture
	except       []netip.AddrPort // from's ends of connections that were let in
	addrs        []netip.Addr
	ports        []uint16
	connectPorts []uint16
}

// A finding is the result of a scan.
type finding struct {
	scan   scan
	probes int // made
	sent   int // that the capture saw leave
	back   []netlab.Frame
	states findings
}

// run runs the scan.
func (s scan) run(ctx context.Context) (f finding, err error) {
	f = finding{scan: s, states: make(findings)}
	mark := s.capture.mark()
	connects, err := s.connect()
	defer func() { err = errors.Join(err, connects.close()) }()
	if err != nil {
		return f, err
	}

	probes := s.probes()
	if err := s.send(ctx, probes); err != nil {
		return f, err
	}
	if err := netlab.Sleep(ctx, quietPeriod); err != nil {
		return f, err
	}
	packets, err := s.capture.since(mark)
	if err != nil {
		return f, err
	}

	f.probes = len(probes) + len(connects)
	f.sent = sent(packets, s.from, s.addrs, s.except)
	f.back = received(packets, s.from, s.except)
	answers := make(map[probe]answer)
	for _, p := range f.back {
		if q, a, ok := match(p); ok {
			answers[q] = a
		}
	}

	for _, p := range probes {
		f.states[p] = p.technique.conclude(answers[p])
	}
	for _, c := range connects {
		a, err := c.answer()
		if err != nil {
			return f, err
		}
		f.states[c.probe] = connectScan.conclude(a)
	}
	return f, nil
}

// probes returns the probes that are sent by send.
func (s scan) probes() []probe {
	var all []probe
	for t := range techniqueCount {
		for _, a := range s.addrs {
			switch t {
			case connectScan:
			case echoScan:
				all = append(all, probe{t, a, 0})
			default:
				for _, port := range s.ports {
					all = append(all, probe{t, a, port})
				}
			}
		}
	}
	return all
}

// send sends probes from raw sockets of the host.
func (s scan) send(ctx context.Context, probes []probe) (err error) {
	var raw4, raw6 int
	if err := s.from.Do(func() (err error) {
		// IPPROTO_RAW: the IP header is ours, in both families.
		if raw4, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		if raw6, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			raw6 = raw4 // a kernel without IPv6, to which no probe will be sent
		}
		return nil
	}); err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}

	defer func() {
		err = errors.Join(err, unix.Close(raw4))
		if raw6 != raw4 {
			err = errors.Join(err, unix.Close(raw6))
		}
	}()

	for i, p := range probes {
		fd := raw4
		if p.addr.Is6() {
			fd = raw6
		}
		if err := unix.Sendto(fd, p.packet(s.source(p.addr)), 0, netlab.Sockaddr(p.addr, 0)); err != nil {
			return fmt.Errorf("send a probe to %v: %w", p.addr, err)
		}
		if i%burst == burst-1 {
			if err := netlab.Sleep(ctx, burstPause); err != nil {
				return err
			}
		}
	}
	return nil
}

// source returns the scanner's address of the family of other.
func (s scan) source(other netip.Addr) netip.Addr {
	for _, a := range s.from.Addrs() {
		if a.Is4() == other.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// A connect is a connection attempt of the kernel.
type connect struct {
	probe probe
	fd    int
}

type connects []connect

// connect starts all connections of the scan.
func (s scan) connect() (all connects, err error) {
	err = s.from.Do(func() error {
		for _, a := range s.addrs {
			for _, port := range s.connectPorts {
				domain := unix.AF_INET
				if a.Is6() {
					domain = unix.AF_INET6
				}
				fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
				if err != nil {
					return fmt.Errorf("open a socket: %w", err)
				}
				all = append(all, connect{probe{connectScan, a, port}, fd})

				// A connection ends with a reset, which is not answered: an
				// answer would be counted as one to the next scan.
				if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
					return fmt.Errorf("set a socket's linger: %w", err)
				}
				if err := unix.Connect(fd, netlab.Sockaddr(a, port)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
					return fmt.Errorf("connect to %v: %w", netip.AddrPortFrom(a, port), err)
				}
			}
		}
		return nil
	})
	return all, err
}

// answer returns the answer that the kernel has received so far.
func (c connect) answer() (answer, error) {
	ready := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(ready, 0); err != nil || n == 0 {
		return silence, err
	}
	errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return silence, err
	}
	switch unix.Errno(errno) {
	case 0:
		return synAck, nil
	case unix.ECONNREFUSED:
		return reset, nil
	default:
		return otherError, nil
	}
}

func (all connects) close() error {
	var err error
	for _, c := range all {
		err = errors.Join(err, unix.Close(c.fd))
	}
	return err
}
