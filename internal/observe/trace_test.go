package observe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
)

func TestClockDifferenceHasMilliseconds(t *testing.T) {
	const want = -40.123
	e := knock.Event{
		Result: knock.Stale, Client: "alice", Source: netip.MustParseAddr("192.0.2.1"),
		Timed: true, Skew: -40*time.Second - 123456789*time.Nanosecond,
	}
	one := &trace{now: time.Now, o: control.TraceOptions{From: netip.MustParsePrefix("0.0.0.0/0")}, events: make(chan control.TraceEvent, 1)}
	seen := &LastSeen{now: time.Now}
	sessions := new(Sessions)
	sessions.all.Store(&[]*session{{one, one.queued}})
	for _, s := range []Sink{sessions, seen} {
		s.Knock(&e)
	}
	if len(one.events) != 1 {
		t.Fatalf("the trace has %d events", len(one.events))
	}
	if got := <-one.events; got.ClockDifference != want {
		t.Errorf("the trace has %+v", got)
	}
	if got := seen.Get("alice").Denied; got == nil || got.ClockDifference == nil || *got.ClockDifference != want {
		t.Errorf("the last attempt is %+v", got)
	}
}
