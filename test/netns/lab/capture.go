//go:build linux

package lab

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/netlab"
)

// captureLinger is how long a capture continues after Stop, for answers still on
// their way.
const captureLinger = 300 * time.Millisecond

// A Capture keeps every packet of one interface, in both directions, from the
// call of Host.Capture on.
type Capture struct {
	tb      testing.TB
	capture *netlab.Capture

	mu      sync.Mutex
	packets []Packet
}

// Capture starts to capture on one of the host's interfaces. It ends with Stop,
// or with the test.
func (h *Host) Capture(link string) *Capture {
	h.tb.Helper()
	return h.capture(link, nil)
}

// CaptureAnswers is Capture of only those packets that the host sends there with
// a protected address as the source. The kernel selects them.
func (h *Host) CaptureAnswers(link string) *Capture {
	h.tb.Helper()
	return h.capture(link, onlyAnswers)
}

// onlyAnswers passes outgoing packets with a source in Protected4 or Protected6.
var onlyAnswers = []bpf.Instruction{
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
	bpf.RetConstant{Val: netlab.CaptureMax},
	bpf.RetConstant{Val: 0},
}

func (h *Host) capture(link string, filter []bpf.Instruction) *Capture {
	h.tb.Helper()
	c := &Capture{tb: h.tb}
	var err error
	c.capture, err = h.Host.Capture(link, filter, func(at time.Time, frame []byte) {
		p := parsePacket(at, frame)
		c.mu.Lock()
		c.packets = append(c.packets, p)
		c.mu.Unlock()
	})
	if err != nil {
		h.tb.Fatal(err)
	}
	h.tb.Cleanup(func() { c.stop(0) })
	return c
}

// Packets returns what was captured so far.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packets[:len(c.packets):len(c.packets)]
}

// Stop waits briefly for packets on their way, ends the capture and returns all
// of it. A capture with gaps proves nothing and fails the test.
func (c *Capture) Stop() []Packet {
	c.tb.Helper()
	c.stop(captureLinger)
	return c.Packets()
}

func (c *Capture) stop(linger time.Duration) {
	c.tb.Helper()
	if err := c.capture.Stop(linger); err != nil {
		c.tb.Error(err)
	}
}
