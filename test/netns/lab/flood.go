//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/netlab"
)

const (
	// floodBatch is how many packets one system call sends.
	floodBatch = 64
	// floodPause is the least that a flood sleeps. It sends evenly: in the
	// pauses between bursts there would be more tokens left in a bucket than
	// attackers leave.
	floodPause = 50 * time.Microsecond
	// MaxPacket is the largest packet of a flood in bytes: what a link carries.
	MaxPacket = 1500
)

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	_      uint32 // bytes sent
}

// Flood sends junk from the host, at a rate in packets a second, or with 0 as
// fast as it can, until ctx ends. It returns how many packets it has sent.
func (h *Host) Flood(ctx context.Context, junk Junk, rate int) (sent int, err error) {
	return h.FloodWith(ctx, junk.To.Addr(), junk.next, rate)
}

// FloodWith is Flood for packets that next makes: it writes the next one, at
// most MaxPacket bytes for an address of to's family, and returns its size. A
// size of 0 ends the flood.
func (h *Host) FloodWith(ctx context.Context, to netip.Addr, next func(b []byte) int, rate int) (sent int, err error) {
	var fd int
	err = h.Do(func() error {
		fd, err = netlab.RawSocket(to)
		return err
	})
	if err == nil {
		sent, err = flood(ctx, fd, next, rate)
	}
	if err != nil {
		return sent, fmt.Errorf("%s: %w", h.Name, err)
	}
	return sent, nil
}

// FloodFrames is FloodWith for packets that no IP socket sends: next writes
// every byte, the header's checksum and lengths included. They go to the gateway
// over the host's link.
func (h *Host) FloodFrames(ctx context.Context, gateway *Host, next func(b []byte) int, rate int) (sent int, err error) {
	near, err := h.Routes.LinkByName(Link)
	if err != nil {
		return 0, fmt.Errorf("%s: find its link: %w", h.Name, err)
	}
	far, err := gateway.Routes.LinkByName(h.Name + "0")
	if err != nil {
		return 0, fmt.Errorf("%s: find the link of %s: %w", gateway.Name, h.Name, err)
	}

	var fd int
	err = h.Do(func() error {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: near.Attrs().Index})
	})
	if err != nil {
		return 0, fmt.Errorf("%s: open a packet socket: %w", h.Name, err)
	}

	const header, addr = 14, 6 // bytes of an Ethernet header, and of an address
	return flood(ctx, fd, func(b []byte) int {
		copy(b, far.Attrs().HardwareAddr)
		copy(b[addr:], near.Attrs().HardwareAddr)
		n := next(b[header:])
		if n == 0 {
			return 0
		}
		b[12], b[13] = 0x08, 0x00
		if b[header]>>4 == 6 {
			b[12], b[13] = 0x86, 0xdd
		}
		return header + n
	}, rate)
}

// Flood is Host.Flood from where the caller itself is: for a process that a
// test has started on a host.
func Flood(ctx context.Context, junk Junk, rate int) (sent int, err error) {
	fd, err := netlab.RawSocket(junk.To.Addr())
	if err != nil {
		return 0, err
	}
	return flood(ctx, fd, junk.next, rate)
}

// flood closes the socket in the end.
func flood(ctx context.Context, fd int, next func(b []byte) int, rate int) (sent int, err error) {
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var (
		packets  [floodBatch][MaxPacket]byte
		pieces   [floodBatch]unix.Iovec
		messages [floodBatch]message
	)

	for i := range messages {
		pieces[i].Base = &packets[i][0]
		messages[i].header.Iov = &pieces[i]
		messages[i].header.SetIovlen(1)
	}

	if rate > 0 {
		restore, err := punctual()
		if err != nil {
			return 0, fmt.Errorf("get ahead of other work: %w", err)
		}
		defer restore()
	}

	for began := time.Now(); ctx.Err() == nil; {
		n := floodBatch
		if rate > 0 {
			if n = min(n, int(time.Since(began).Seconds()*float64(rate))-sent); n <= 0 {
				pause := unix.NsecToTimespec(max(floodPause, time.Second/time.Duration(rate)).Nanoseconds())
				_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &pause, nil) // interrupted, it is shorter
				continue
			}
		}

		for i := range n {
			size := next(packets[i][:])
			if size == 0 {
				n = i
				break
			}
			pieces[i].SetLen(size)
		}
		if n == 0 {
			return sent, nil
		}
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages)), //nolint:gosec // no package has a call for it
			uintptr(n), 0, 0, 0)
		switch errno {
		case 0:
			sent += int(done)
		case unix.EINTR, unix.EAGAIN, unix.ENOBUFS:
		case unix.ENETDOWN: // the other end of the link is down: a host that boots
			time.Sleep(floodPause)
		default:
			return sent, fmt.Errorf("send %d packets: %w", n, errno)
		}
	}
	return sent, nil
}

// punctual keeps the calling goroutine's thread from waiting for processors
// until restore: attackers have machines of their own, and in a flood's
// involuntary pauses there would be more room than they leave.
func punctual() (restore func(), err error) {
	runtime.LockOSThread()
	set := func(policy, priority uint32) error {
		return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}, 0)
	}
	if err := set(unix.SCHED_FIFO, 1); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	return func() {
		if set(unix.SCHED_NORMAL, 0) == nil {
			runtime.UnlockOSThread() // or the thread ends with the goroutine
		}
	}, nil
}

// AnySource has the gateway forward packets whatever their source, as if a
// neighbour sent them on.
func (l *Lab) AnySource() {
	l.tb.Helper()
	for _, link := range []string{"all", l.Attacker.Name + "0"} {
		l.Gateway.Sysctl("ipv4/conf/"+link+"/rp_filter", "0")
	}
}
