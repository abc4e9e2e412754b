//go:build linux

package netns_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// clockOff is how far the client's clock is off: more than the window of 30 s that the gateway gives it.
const clockOff = 41 * time.Second

// clockPatience is how long the client knocks in vain before it asks for the time; usually it is longer.
const clockPatience = 3 * time.Second

func TestAClientWhoseClockIsOffIsToldByHowMuch(t *testing.T) {
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	h := hide(t, l, protocol.MethodUDP, door{name: "lines", listen: netip.MustParseAddrPort("10.77.0.1:7000"), upstream: s.Addr})
	for name, off := range map[string]time.Duration{"slow": -clockOff, "fast": clockOff} {
		t.Run(name, func(t *testing.T) {
			got := done[measured](soon(t, serverTime), t, l.Client, &measuring{Profile: h.file(), Service: "lines", Off: off})
			if !strings.Contains(got.Dial, "41 s") {
				t.Errorf("the error of a dial is %q, and does not say 41 s", got.Dial)
			}
			if d := (got.Offset - off).Abs(); got.Failure != "" || d > 2*time.Second {
				t.Errorf("the offset is found to be %v, want %v: %s", got.Offset, off, got.Failure)
			}
		})
	}
}

// measuring is a Go program on a machine whose clock is off, which wants to know by how much.
type measuring struct {
	Profile, Service string
	Off              time.Duration // ahead of the real time
}

type measured struct {
	Dial    string        // the error of a dial
	Offset  time.Duration // how far the clock is ahead
	Failure string        // of finding it
}

func (m *measuring) do(ctx context.Context) (any, error) {
	p, err := profile.Load(m.Profile)
	if err != nil {
		return nil, err
	}
	door, err := p.Find(m.Service)
	if err != nil {
		return nil, err
	}
	d, err := door.Dialer()
	if err != nil {
		return nil, err
	}
	d.FindClock, d.Timeout = true, clockPatience
	d.Now = func() time.Time { return time.Now().Add(m.Off) }
	var got measured
	if conn, err := d.DialContext(ctx, "tcp", door.Address); err == nil {
		_ = conn.Close()
	} else {
		got.Dial = err.Error()
	}
	if got.Offset, err = d.ClockOffset(ctx, "tcp", door.Address); err != nil {
		got.Failure = err.Error()
	}
	return got, nil
}
