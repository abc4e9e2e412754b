package gateway

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
)

// noted keeps what a watcher is told.
type noted struct{ events []control.TraceEvent }

func (*noted) queued() (now, most int)                     { return 0, 1 }
func (*noted) packet(*capture.Event)                       {}
func (n *noted) event(_ netip.Addr, e *control.TraceEvent) { n.events = append(n.events, *e) }

// What operators are told of a difference of clocks is the same wherever they look.
func TestTheDifferenceOfTheClocksIsSaidToTheMillisecondEverywhere(t *testing.T) {
	const want = -40.123
	e := knock.Event{
		Result: knock.Stale, Client: "alice", Source: netip.MustParseAddr("192.0.2.1"),
		Timed: true, Skew: -40*time.Second - 123456789*time.Nanosecond,
	}
	g := &Gateway{o: Options{Now: time.Now}}
	var n noted
	g.watchers.all.Store(&[]watcher{&n})
	g.watchKnock(&e)
	if len(n.events) != 1 || n.events[0].ClockDifference != want {
		t.Errorf("a trace says %+v", n.events)
	}
	g.journal.knocked(e, time.Now())
	if got := g.journal.of("alice").refused; got == nil || got.ClockDifference == nil || *got.ClockDifference != want {
		t.Errorf("knockgw clients says %+v", got)
	}
}
