package admission

import (
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/protocol"
)

func TestEventSkew(t *testing.T) {
	off := 250 * time.Millisecond
	for name, c := range map[string]struct {
		knock func(peer testPeer) []byte // by a client whose clock is ahead by off
		timed bool
	}{
		"udp": {func(peer testPeer) []byte {
			m := peer.message("")
			m.Time += off.Milliseconds()
			return peer.sealKnock(alice, "db", m)
		}, true},
		"udp-v2": {func(peer testPeer) []byte {
			return peer.v2(alice, "db", func(m *protocol.KnockV2Message) { m.Time += off.Milliseconds() })
		}, true},
		"tcp-syn": {func(peer testPeer) []byte { return peer.synKnock(alice, "db", 1) }, false},
		"tcp-syn-seq": {func(peer testPeer) []byte {
			for i := range 2 {
				peer.h.want(peer.synPart(alice, "db", 1, i), ReasonKnockPart)
			}
			return peer.synPart(alice, "db", 1, 2)
		}, false},
	} {
		h := newHarness(t, allMethods())
		if got := h.knockResult(c.knock(h.peer("192.0.2.1"))); got != knock.OK {
			t.Fatalf("%s: %v", name, got)
		}
		e := h.events[len(h.events)-1]
		if e.Timed != c.timed || c.timed && e.Skew != off || !c.timed && e.Skew != 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// The slot of a udp-v2 knock bounds the difference. Within it, the difference
// does not depend on the slots or on the window.
func TestKnockV2SkewIsExact(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("2001:db8::1")
	now := h.Now()
	for off := -2 * testWindow; off <= 2*testWindow; off += 1234 * time.Millisecond {
		slots := protocol.Slot(now.Add(off), testWindow) - protocol.Slot(now, testWindow)
		if slots < -1 || slots > 1 {
			continue
		}
		b := peer.v2At(alice, "db", testGateway, slots, func(m *protocol.KnockV2Message) { m.Time += off.Milliseconds() })
		want := knock.OK
		if off.Abs() > testWindow {
			want = knock.Stale
		}
		got := h.knockResult(b)
		if e := h.events[len(h.events)-1]; got != want || !e.Timed || e.Skew != off {
			t.Errorf("a clock that is off by %v: %+v", off, e)
		}
	}
}
