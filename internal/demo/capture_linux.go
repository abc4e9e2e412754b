package demo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// captureBuffer is the socket's share of kernel memory in bytes: a whole scan fits in.
	captureBuffer = 32 << 20
	// captureKept is what is read of a frame in bytes; the largest that matters is a knock.
	captureKept = 2048
)

// A capture reads every packet of a host's link, in both directions.
type capture struct {
	host *host
	file *os.File
	read sync.WaitGroup

	mu      sync.Mutex
	packets []frame
	err     error
}

// capture begins to capture.
func (h *host) capture() (*capture, error) {
	c := &capture{host: h}
	if err := h.do(c.open); err != nil {
		return nil, fmt.Errorf("capture on the link of the %s: %w", h.name, err)
	}
	c.read.Go(c.run)
	return c, nil
}

// open runs on the host's thread.
func (c *capture) open() error {
	link, err := net.InterfaceByName(linkName)
	if err != nil {
		return err
	}
	// Protocol 0 receives nothing: no packet of another interface slips in before the bind.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}),
	)
	if err != nil {
		return errors.Join(fmt.Errorf("bind a packet socket: %w", err), unix.Close(fd))
	}
	c.file = os.NewFile(uintptr(fd), "capture of the "+c.host.name)
	return nil
}

func (c *capture) run() {
	b := make([]byte, captureKept)
	for {
		n, err := c.file.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		c.mu.Lock()
		if err != nil {
			c.err = fmt.Errorf("capture on the link of the %s: %w", c.host.name, err)
			c.mu.Unlock()
			return
		}
		if p, ok := parseFrame(b[:n]); ok {
			c.packets = append(c.packets, p)
		}
		c.mu.Unlock()
	}
}

// mark is a moment in the capture, for since.
func (c *capture) mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.packets)
}

// since returns the packets after a mark. A capture with gaps proves nothing
// and is an error.
func (c *capture) since(mark int) ([]frame, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var stats *unix.TpacketStats
	if cerr := raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); cerr != nil || err != nil {
		return nil, fmt.Errorf("ask the capture of the %s for its gaps: %w", c.host.name, errors.Join(cerr, err))
	}
	if stats.Drops > 0 {
		return nil, fmt.Errorf("the capture of the %s lost %d packets", c.host.name, stats.Drops)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.packets[mark:]), c.err
}

// close ends the capture.
func (c *capture) close() error {
	err := c.file.Close()
	c.read.Wait()
	return err
}

// back picks what the host got: from the protected prefixes, to whomever, and
// from anybody else to the host itself, such as an ICMP error of the gateway's
// kernel. The link's own housekeeping is no answer, and what comes to the ends
// in except is none to a scan.
func back(packets []frame, h *host, protects func(netip.Addr) bool, except []netip.AddrPort) []frame {
	var got []frame
	for _, p := range packets {
		toHost := slices.Contains(h.addrs, p.dst.Addr()) && !p.housekeeping()
		if (protects(p.src.Addr()) || toHost) && !slices.Contains(except, p.dst) {
			got = append(got, p)
		}
	}
	return got
}

// sent counts what the host sent to any of the addresses, other than from the ends in except.
func sent(packets []frame, h *host, to []netip.Addr, except []netip.AddrPort) int {
	n := 0
	for _, p := range packets {
		if slices.Contains(h.addrs, p.src.Addr()) && slices.Contains(to, p.dst.Addr()) && !slices.Contains(except, p.src) {
			n++
		}
	}
	return n
}
