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
		knock func(v testPeer) []byte // by a client whose clock is ahead by off
		timed bool
	}{
		"udp": {func(v testPeer) []byte {
			m := v.message("")
			m.Time += off.Milliseconds()
			return v.sealed(alice, "db", m)
		}, true},
		"udp-v2": {func(v testPeer) []byte {
			return v.v2(alice, "db", func(m *protocol.KnockV2Message) { m.Time += off.Milliseconds() })
		}, true},
		"tcp-syn": {func(v testPeer) []byte { return v.synKnock(alice, "db", 1) }, false},
		"tcp-syn-seq": {func(v testPeer) []byte {
			for i := range 2 {
				v.w.want(v.synPart(alice, "db", 1, i), ReasonKnockPart)
			}
			return v.synPart(alice, "db", 1, 2)
		}, false},
	} {
		w := newHarness(t, every())
		if got := w.result(c.knock(w.at("192.0.2.1"))); got != knock.OK {
			t.Fatalf("%s: %v", name, got)
		}
		e := w.events[len(w.events)-1]
		if e.Timed != c.timed || c.timed && e.Skew != off || !c.timed && e.Skew != 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// The slot of a udp-v2 knock bounds the difference. Within that, it is not a
// constant of the slots or of the window.
func TestKnockV2SkewIsExact(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("2001:db8::1")
	now := w.options().Now()
	for off := -2 * testWindow; off <= 2*testWindow; off += 1234 * time.Millisecond {
		slots := protocol.Slot(now.Add(off), testWindow) - protocol.Slot(now, testWindow)
		if slots < -1 || slots > 1 {
			continue
		}
		b := v.v2At(alice, "db", testGateway, slots, func(m *protocol.KnockV2Message) { m.Time += off.Milliseconds() })
		want := knock.OK
		if off.Abs() > testWindow {
			want = knock.Stale
		}
		got := w.result(b)
		if e := w.events[len(w.events)-1]; got != want || !e.Timed || e.Skew != off {
			t.Errorf("a clock that is off by %v: %+v", off, e)
		}
	}
}
