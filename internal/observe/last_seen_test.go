package observe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/protocol"
)

// difference returns the clock difference of an attempt, if it has one.
func difference(a *control.Attempt) (ahead float64, known bool) {
	if a == nil || a.ClockDifference == nil {
		return 0, false
	}
	return *a.ClockDifference, true
}

func TestLastSeenOmitsUnmeasuredClockDifference(t *testing.T) {
	const off = -1500 * time.Millisecond
	for name, c := range map[string]struct {
		event knock.Event
		known bool
	}{
		"accepted":             {knock.Event{Result: knock.OK, Timed: true}, true},
		"accepted SYN":         {knock.Event{Result: knock.OK}, false},
		"stale":                {knock.Event{Result: knock.Stale, Timed: true}, true},
		"forbidden":            {knock.Event{Result: knock.Forbidden, Timed: true}, true},
		"forbidden SYN":        {knock.Event{Result: knock.Forbidden}, false},
		"outside the hours":    {knock.Event{Result: knock.OutsideSchedule, Timed: true}, true},
		"replay":               {knock.Event{Result: knock.Replayed, Timed: true}, false},
		"malformed, but ours":  {knock.Event{Result: knock.Malformed}, false},
		"SYN again, its owner": {knock.Event{Result: knock.Repeated}, false},
	} {
		l := LastSeen{now: time.Now}
		c.event.Client = "alice"
		if c.event.Timed {
			c.event.Skew = off
		}
		l.Knock(&c.event)
		e := l.Get("alice")
		a := e.Seen
		if a == nil {
			a = e.Denied
		}
		if ahead, known := difference(a); known != c.known || known && ahead != off.Seconds() {
			t.Errorf("%s: %v, %v", name, ahead, known)
		}
	}
}

func TestLastSeenKeepsClockDifferenceOfSuccess(t *testing.T) {
	const off, waited = 250 * time.Millisecond, 2700 * time.Millisecond
	alice, err := protocol.NewClient("alice", []byte("0123456789abcdef, of a test"))
	if err != nil {
		t.Fatal(err)
	}
	read := time.Now()
	l := LastSeen{now: func() time.Time { return read }}
	// The message was read, and then waited for its knock.
	peer := &auth.Peer{Client: alice, ClockOffset: off}
	peer.Message.Time = read.Add(off).UnixMilli()
	read = read.Add(waited)
	l.authenticated(peer, "ssh", netip.MustParseAddr("192.0.2.1"))
	read = read.Add(-waited)
	for _, deny := range []func(){
		func() { l.Knock(&knock.Event{Client: "alice", Result: knock.Forbidden}) },
		func() {
			l.Knock(&knock.Event{Client: "alice", Result: knock.Stale, Timed: true, Skew: -time.Hour})
		},
		func() {
			l.denied(&auth.Error{Client: alice, Result: auth.ResultReplay, ClockOffset: -20 * time.Second}, "ssh", netip.MustParseAddr("192.0.2.1"))
		},
	} {
		deny()
		if ahead, known := difference(l.Get("alice").Seen); !known || ahead != off.Seconds() {
			t.Errorf("accepted: %v, %v", ahead, known)
		}
	}
	if ahead, known := difference(l.Get("alice").Denied); known {
		t.Errorf("a replayed authentication says that the clocks differ by %v", ahead)
	}
}
