package gateway

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/protocol"
)

// difference is what an attempt says about the clocks, and whether it does.
func difference(a *control.Attempt) (ahead float64, known bool) {
	if a == nil || a.ClockDifference == nil {
		return 0, false
	}
	return *a.ClockDifference, true
}

func TestJournalHasADifferenceOfClocksOnlyWhereItWasMeasured(t *testing.T) {
	const off = -1500 * time.Millisecond
	for name, c := range map[string]struct {
		event admission.KnockEvent
		known bool
	}{
		"accepted":             {admission.KnockEvent{Result: admission.KnockOK, Timed: true}, true},
		"accepted SYN":         {admission.KnockEvent{Result: admission.KnockOK}, false},
		"stale":                {admission.KnockEvent{Result: admission.KnockStale, Timed: true}, true},
		"forbidden":            {admission.KnockEvent{Result: admission.KnockForbidden, Timed: true}, true},
		"forbidden SYN":        {admission.KnockEvent{Result: admission.KnockForbidden}, false},
		"outside the hours":    {admission.KnockEvent{Result: admission.KnockNotNow, Timed: true}, true},
		"replay":               {admission.KnockEvent{Result: admission.KnockReplay, Timed: true}, false},
		"malformed, but ours":  {admission.KnockEvent{Result: admission.KnockRefused}, false},
		"SYN again, its owner": {admission.KnockEvent{Result: admission.KnockRepeat}, false},
	} {
		var j journal
		c.event.Client = "alice"
		if c.event.Timed {
			c.event.Skew = off
		}
		j.knocked(c.event, time.Now())
		e := j.of("alice")
		a := e.seen
		if a == nil {
			a = e.refused
		}
		if ahead, known := difference(a); known != c.known || known && ahead != off.Seconds() {
			t.Errorf("%s: %v, %v", name, ahead, known)
		}
	}
}

func TestRefusalsLeaveTheAcceptedDifferenceOfClocks(t *testing.T) {
	const off, waited = 250 * time.Millisecond, 2700 * time.Millisecond
	alice, err := protocol.NewClient("alice", []byte("0123456789abcdef, of a test"))
	if err != nil {
		t.Fatal(err)
	}
	var j journal
	read := time.Now()
	// The message was read, and then waited for its knock.
	peer := &auth.Peer{Client: alice, ClockDiff: off}
	peer.Message.Time = read.Add(off).UnixMilli()
	j.authenticated(peer, "ssh", netip.MustParseAddr("192.0.2.1"), read.Add(waited))
	for _, refuse := range []func(){
		func() { j.knocked(admission.KnockEvent{Client: "alice", Result: admission.KnockForbidden}, read) },
		func() {
			j.knocked(admission.KnockEvent{Client: "alice", Result: admission.KnockStale, Timed: true, Skew: -time.Hour}, read)
		},
		func() {
			j.refused(&auth.Error{Client: alice, Result: auth.ResultReplay, ClockDiff: -20 * time.Second}, "ssh", netip.MustParseAddr("192.0.2.1"), read)
		},
	} {
		refuse()
		if ahead, known := difference(j.of("alice").seen); !known || ahead != off.Seconds() {
			t.Errorf("accepted: %v, %v", ahead, known)
		}
	}
	if ahead, known := difference(j.of("alice").refused); known {
		t.Errorf("a replayed authentication says that the clocks differ by %v", ahead)
	}
}
