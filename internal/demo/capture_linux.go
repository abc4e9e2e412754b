package demo

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

// A capture keeps every packet of a host's link, in both directions.
type capture struct {
	host *netlab.Host
	link *netlab.Capture

	mu      sync.Mutex
	packets []netlab.Frame
}

// startCapture starts to capture.
func startCapture(h *netlab.Host) (c *capture, err error) {
	c = &capture{host: h}
	c.link, err = h.Capture(netlab.Link, nil, c.add)
	return c, err
}

func (c *capture) add(_ time.Time, frame []byte) {
	f, ok := netlab.ParseFrame(frame)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = append(c.packets, f)
}

// mark returns the current position in the capture, for since.
func (c *capture) mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.packets)
}

// since returns the packets after a mark. A capture with gaps proves nothing
// and is an error.
func (c *capture) since(mark int) ([]netlab.Frame, error) {
	lost, err := c.link.Lost()
	if err != nil {
		return nil, err
	}
	if lost > 0 {
		return nil, fmt.Errorf("the capture of the %s lost %d packets", c.host.Name, lost)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.packets[mark:]), nil
}

// close ends the capture.
func (c *capture) close() error { return c.link.Stop(0) }

// received returns what told the host something. Packets to the endpoints in
// except, which are of admitted connections, are no answers to a scan.
func received(packets []netlab.Frame, h *netlab.Host, except []netip.AddrPort) []netlab.Frame {
	var got []netlab.Frame
	for _, p := range packets {
		if p.IsAnswer(h.Addrs()...) && !slices.Contains(except, p.Dst) {
			got = append(got, p)
		}
	}
	return got
}

// sent counts the packets of the host to any of the addresses, except those from
// the endpoints in except.
func sent(packets []netlab.Frame, h *netlab.Host, to []netip.Addr, except []netip.AddrPort) int {
	n := 0
	for _, p := range packets {
		if slices.Contains(h.Addrs(), p.Src.Addr()) && slices.Contains(to, p.Dst.Addr()) && !slices.Contains(except, p.Src) {
			n++
		}
	}
	return n
}
