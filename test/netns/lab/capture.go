//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// captureBuffer is the socket's share of kernel memory in bytes: a scan at full speed fits in.
	captureBuffer = 32 << 20
	// captureKept is what is kept of a packet in bytes, enough for every header and for a whole knock.
	captureKept = 2048
	// captureLargest is the largest thing a veth hands over: a segment not yet cut, and its headers.
	captureLargest = 64<<10 + 256
	// captureLinger is how long a capture goes on once it is asked to stop, for answers still on their way.
	captureLinger = 300 * time.Millisecond
)

// A Capture reads every packet of one interface, both directions, from the call of Host.Capture on.
type Capture struct {
	tb   testing.TB
	host string
	link string
	file *os.File
	done chan struct{}

	mu      sync.Mutex
	packets []Packet

	stopped sync.Once
}

// Capture begins to capture on one of the host's interfaces. It ends with Stop, or with the test.
func (h *Host) Capture(link string) *Capture {
	h.tb.Helper()
	return h.capture(link, nil)
}

// CaptureAnswers is Capture of those packets alone that the host sends there with a
// protected address as the source. The kernel picks them out of any number.
func (h *Host) CaptureAnswers(link string) *Capture {
	h.tb.Helper()
	return h.capture(link, answersAlone)
}

// answersAlone passes what leaves with a source in Protected4 or Protected6.
var answersAlone = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 11},
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 26, Size: 4},
	bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffffff00},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x0a4d0000, SkipTrue: 5, SkipFalse: 6},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 22, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0xfd770000, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 26, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
	bpf.RetConstant{Val: captureLargest},
	bpf.RetConstant{Val: 0},
}

func (h *Host) capture(link string, only []bpf.Instruction) *Capture {
	h.tb.Helper()
	c := &Capture{tb: h.tb, host: h.Name, link: link, done: make(chan struct{})}
	err := h.ns.Do(func() (err error) {
		c.file, err = packetSocket(link, only)
		return err
	})
	if err != nil {
		h.tb.Fatalf("%s: capture on %s: %v", h.Name, link, err)
	}
	go c.read()
	h.tb.Cleanup(func() { c.stop(0) })
	return c
}

// packetSocket opens a socket that sees all packets of an interface of the calling thread's namespace.
func packetSocket(link string, only []bpf.Instruction) (*os.File, error) {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	everything := htons(unix.ETH_P_ALL)
	// Protocol 0 receives nothing: not one packet of another interface slips in before the bind.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	err = errors.Join(
		attach(fd, only),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: iface.Index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bind a packet socket: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "capture on "+link), nil
}

// attach gives a socket a filter, if there is one.
func attach(fd int, only []bpf.Instruction) error {
	if only == nil {
		return nil
	}
	raw, err := bpf.Assemble(only)
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// read keeps what the socket yields until its deadline passes.
func (c *Capture) read() {
	defer close(c.done)
	b := make([]byte, captureLargest)
	for {
		n, err := c.file.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if errors.Is(err, unix.ENETDOWN) {
			continue // said once; it goes on when the interface is up
		}
		if err != nil {
			c.tb.Errorf("%s: capture on %s: %v", c.host, c.link, err)
			return
		}
		p := parsePacket(time.Now(), b[:min(n, captureKept)])
		c.mu.Lock()
		c.packets = append(c.packets, p)
		c.mu.Unlock()
	}
}

// Packets is what was captured so far.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packets[:len(c.packets):len(c.packets)]
}

// Stop waits a little for packets on their way, ends the capture and returns all of it. A capture that the
// kernel had to leave gaps in proves nothing and fails the test.
func (c *Capture) Stop() []Packet {
	c.tb.Helper()
	c.stop(captureLinger)
	return c.Packets()
}

func (c *Capture) stop(linger time.Duration) {
	c.tb.Helper()
	c.stopped.Do(func() {
		if err := c.file.SetReadDeadline(time.Now().Add(linger)); err != nil {
			c.tb.Errorf("%s: stop the capture on %s: %v", c.host, c.link, err)
		}
		<-c.done
		if dropped := c.dropped(); dropped > 0 {
			c.tb.Errorf("%s: the capture on %s lost %d packets", c.host, c.link, dropped)
		}
		if err := c.file.Close(); err != nil {
			c.tb.Errorf("%s: close the capture on %s: %v", c.host, c.link, err)
		}
	})
}

// dropped is how many packets the kernel had no room for.
func (c *Capture) dropped() uint32 {
	raw, err := c.file.SyscallConn()
	if err != nil {
		c.tb.Errorf("%s: ask for the drops on %s: %v", c.host, c.link, err)
		return 0
	}
	var stats *unix.TpacketStats
	if cerr := raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); cerr != nil || err != nil {
		c.tb.Errorf("%s: ask for the drops on %s: %v", c.host, c.link, errors.Join(cerr, err))
		return 0
	}
	return stats.Drops
}
