package netlab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// captureBuffer is the socket's share of kernel memory in bytes: a scan at
	// full speed fits in.
	captureBuffer = 32 << 20
	// captureKept is how many bytes of a frame are kept, enough for every header
	// and for a whole knock.
	captureKept = 2048
	// CaptureMax is the size in bytes of the largest frame on a veth: a segment
	// not yet cut, and its headers.
	CaptureMax = 64<<10 + 256
)

// A Capture reads every frame of one interface, in both directions.
type Capture struct {
	file *os.File
	done chan struct{}
	stop sync.Once
	err  error // of the reader; read after done
}

// Capture starts to capture on an interface of the host. Frames that filter
// accepts, or all without one, are passed to handle by one goroutine, which
// lends them.
func (h *Host) Capture(link string, filter []bpf.Instruction, handle func(at time.Time, frame []byte)) (*Capture, error) {
	c := &Capture{done: make(chan struct{})}
	err := h.Do(func() (err error) {
		c.file, err = packetSocket(link, filter)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s of the %s: %w", link, h.Name, err)
	}
	go func() {
		defer close(c.done)
		if err := c.read(handle); err != nil {
			c.err = fmt.Errorf("capture on %s of the %s: %w", link, h.Name, err)
		}
	}()
	return c, nil
}

// packetSocket opens a socket that receives all frames of an interface of the
// calling thread's namespace.
func packetSocket(link string, filter []bpf.Instruction) (*os.File, error) {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}

	// Protocol 0 receives nothing: no frame of another interface gets in before
	// the bind.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	const allProtocols = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	err = errors.Join(
		attachFilter(fd, filter),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: iface.Index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bind a packet socket: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "capture on "+link), nil
}

// attachFilter attaches a filter to a socket, if there is one.
func attachFilter(fd int, filter []bpf.Instruction) error {
	if filter == nil {
		return nil
	}
	raw, err := bpf.Assemble(filter)
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

// read passes frames on until the socket's deadline.
func (c *Capture) read(handle func(at time.Time, frame []byte)) error {
	b := make([]byte, CaptureMax)
	for {
		n, err := c.file.Read(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.ENETDOWN):
			continue // reported once; frames come again when the interface is up
		case err != nil:
			return err
		}
		handle(time.Now(), b[:min(n, captureKept)])
	}
}

// Lost returns how many frames the kernel had no room for since the last call.
func (c *Capture) Lost() (int, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var stats *unix.TpacketStats
	if failed := raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); failed != nil || err != nil {
		return 0, fmt.Errorf("read the statistics of a capture: %w", errors.Join(failed, err))
	}
	return int(stats.Drops), nil
}

// Stop ends the capture after another while, for frames still on their way. A
// capture with gaps proves nothing and is an error.
func (c *Capture) Stop(linger time.Duration) (err error) {
	c.stop.Do(func() {
		err = c.file.SetReadDeadline(time.Now().Add(linger))
		<-c.done
		lost, failed := c.Lost()
		if lost > 0 {
			failed = fmt.Errorf("%s lost %d packets", c.file.Name(), lost)
		}
		err = errors.Join(err, c.err, failed, c.file.Close())
	})
	return err
}
