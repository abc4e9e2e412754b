package admission

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/testclock"
	"github.com/knockgw/knockgw/protocol"
)

func TestKnockThenSYNIsAdmitted(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"db", "ssh"} {
			h := newHarness(t)
			peer := h.peer(addr)
			h.want(peer.syn(40000, service), ReasonNoGrant)
			peer.mustKnock(alice, service, "")
			h.want(h.peer(peer.addr.Next().String()).syn(40000, service), ReasonNoGrant)
			if got := h.want(peer.syn(40000, service), ReasonGrant); got.Open || got.TupleReused {
				t.Errorf("verdict %+v", got)
			}
			peer.mustEnter(40000, service, alice)
			h.want(peer.tcp(40000, service, 0x10, 1001, 1, "data"), ReasonFlow)
		}
	})
}

func TestKnockGrantsOneService(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "ssh"), ReasonNoGrant)
	h.want(peer.syn(40000, "many"), ReasonNoGrant)
	h.want(peer.syn(40000, "db"), ReasonGrant)
}

func TestKnockAtServicePort(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	b := peer.knock(alice, "db")
	h.want(peer.udp(5432, b[28:]), ReasonKnock)
	h.decide()
	h.want(peer.syn(40000, "db"), ReasonGrant)
}

func TestKnockValidation(t *testing.T) {
	strict := func(o *Options) {
		p := policy.Options{KnockPort: testKnockPort, Window: testWindow}
		for _, s := range o.Policy.Services() {
			t := *s
			t.SessionRequired = true
			p.Services = append(p.Services, t)
		}
		o.Policy, _ = policy.New(p)
	}
	for _, c := range []struct {
		name   string
		client *protocol.Client
		change func(m *protocol.KnockMessage)
		want   knock.Result
	}{
		{"valid", alice, func(*protocol.KnockMessage) {}, knock.OK},
		{"by a client is unknown", carol, func(*protocol.KnockMessage) {}, knock.UnknownClient},
		{"in the passive form", alice, func(m *protocol.KnockMessage) { m.Method = protocol.MethodUDPPassive }, knock.OK},
		{"by another method", alice, func(m *protocol.KnockMessage) { m.Method = "tcp-syn" }, knock.MethodRefused},
		{"by a method that does not exist", alice, func(m *protocol.KnockMessage) { m.Method = "semaphore" }, knock.MethodRefused},
		{"without session id", alice, func(m *protocol.KnockMessage) { m.SessionID = nil }, knock.NoSession},
		{"one part of a sequence", alice, func(m *protocol.KnockMessage) {
			m.SequenceID, m.Total = make([]byte, 16), 3
		}, knock.MethodRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, strict)
			peer := h.peer("192.0.2.1")
			m := peer.message(sessionID(1))
			c.change(&m)
			h.want(peer.sealKnock(c.client, "ssh", m), ReasonKnock)
			h.decide()
			if got := h.lastKnock(); got != c.want {
				t.Fatalf("result %v, want %v", got, c.want)
			}
			want := ReasonNoGrant
			if c.want == knock.OK {
				want = ReasonGrant
			}
			h.want(peer.syn(40000, "ssh"), want)
		})
	}
}

func TestKnockWindowIsInclusive(t *testing.T) {
	for _, c := range []struct {
		off  time.Duration // the message's time less ours
		rest time.Duration // of our clock, below a millisecond
		want knock.Result
	}{
		{0, 0, knock.OK},
		{testWindow, 0, knock.OK},
		{-testWindow, 0, knock.OK},
		{testWindow, 999 * time.Microsecond, knock.OK},
		{-testWindow, 999 * time.Microsecond, knock.OK}, // still the same millisecond on the wire
		{testWindow + time.Millisecond, 0, knock.Stale},
		{testWindow + time.Millisecond, 999 * time.Microsecond, knock.Stale},
		{-testWindow - time.Millisecond, 0, knock.Stale},
		{1 << 62, 0, knock.Stale},
	} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		m := peer.message("")
		m.Time += c.off.Milliseconds()
		h.StepWall(c.rest)
		h.want(peer.sealKnock(alice, "db", m), ReasonKnock)
		h.decide()
		if got := h.lastKnock(); got != c.want {
			t.Errorf("%v off, %v into the millisecond: %v, want %v", c.off, c.rest, got, c.want)
		}
	}
}

func TestClockStepMovesOnlyWindow(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	old := peer.knock(alice, "db")
	peer.mustKnock(alice, "db", "")
	h.StepWall(time.Hour)
	h.want(peer.syn(40000, "db"), ReasonGrant) // a grant lasts by the monotonic clock
	h.want(old, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.Stale {
		t.Errorf("an hour later by the wall clock: %v", got)
	}
	peer.mustKnock(alice, "db", "")
	h.StepWall(-time.Hour)
	h.want(old, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.OK {
		t.Errorf("with the clock set back: %v", got)
	}
}

func TestKnockIsAcceptedOnce(t *testing.T) {
	h := newHarness(t)
	peer, thief := h.peer("192.0.2.1"), h.peer("198.51.100.7")
	b := peer.knock(alice, "db")
	h.want(b, ReasonKnock)
	h.want(b, ReasonKnock) // in the same batch
	h.decide()
	replayed := 0
	for _, e := range h.events {
		if e.Result == knock.Replayed {
			replayed++
		}
	}
	if replayed != 1 || len(h.events) != 2 {
		t.Fatalf("events: %+v", h.events)
	}
	h.want(thief.udp(testKnockPort, b[28:]), ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.Replayed {
		t.Fatalf("from another address: %v", got)
	}
	h.want(thief.syn(40000, "db"), ReasonNoGrant)
	// While it is fresh, whatever the wall clock does.
	for range 6 {
		h.Advance(10 * time.Second)
		h.sweep()
		h.want(b, ReasonKnock)
		h.decide()
		if got := h.lastKnock(); got != knock.Replayed && got != knock.Stale {
			t.Fatalf("later: %v", got)
		}
	}
	h.StepWall(-time.Minute)
	h.want(b, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.Replayed {
		t.Fatalf("with the clock set back: %v", got)
	}
}

func TestKnockReplayAfterRestart(t *testing.T) {
	dir := t.TempDir()
	clocks := testclock.New()
	file := func(o *Options) {
		s := openFile(t, dir, storeOptions(clocks))
		o.Store, o.Now, o.Mono = s, clocks.Now, clocks.Mono
	}
	h := newHarness(t, file)
	b := h.peer("192.0.2.1").knock(alice, "db")
	h.want(b, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.OK {
		t.Fatal(got)
	}
	_ = h.gate.store.Close()
	h = newHarness(t, file)
	h.want(b, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.Replayed {
		t.Fatalf("after a restart: %v", got)
	}
}

// brokenStore answers every claim with an error.
type brokenStore struct{ err error }

func (s brokenStore) Claim(batch []replay.Claim) {
	for i := range batch {
		batch[i].Err = s.err
	}
}
func (brokenStore) Close() error { return nil }

func TestKnockFailsWithStore(t *testing.T) {
	for _, c := range []struct {
		err  error
		want knock.Result
	}{
		{errors.New("disk is gone"), knock.StoreFailed},
		{replay.ErrClosed, knock.StoreFailed},
		{replay.ErrFull, knock.LimitReached},
		{fmt.Errorf("wrapped: %w", replay.ErrReplayed), knock.Replayed},
	} {
		h := newHarness(t, func(o *Options) { o.Store = brokenStore{c.err} })
		peer := h.peer("192.0.2.1")
		h.want(peer.knock(alice, "db"), ReasonKnock)
		h.want(peer.syn(40000, "db"), ReasonDeferred)
		h.decide()
		if got := h.lastKnock(); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
		h.want(peer.syn(40001, "db"), ReasonNoGrant)
		if len(h.delivered) != 0 {
			t.Errorf("%v: the deferred SYN was delivered", c.err)
		}
		h.wantEmpty()
	}
}

func TestKnockQueueLimits(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.Knocks, o.Limits.KnocksPerSource = 10, 4 })
	greedy := h.peer("198.51.100.1")
	for range 4 {
		h.want(greedy.junk(), ReasonKnock)
	}
	h.want(greedy.junk(), ReasonQueueFull)
	others := h.peer("198.51.100.2")
	for range 6 {
		h.want(others.junk(), ReasonKnock)
		others.addr = others.addr.Next()
	}
	h.want(others.junk(), ReasonQueueFull)
	h.want(h.peer("192.0.2.1").knock(alice, "db"), ReasonQueueFull)
	h.decide()
	h.wantEmpty()
	h.peer("192.0.2.1").mustKnock(alice, "db", "")
}

func TestGrantLimits(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.Grants, o.Limits.GrantsPerSource = 3, 2 })
	send := func(addr string) knock.Result {
		h.want(h.peer(addr).knock(alice, "db"), ReasonKnock)
		h.decide()
		return h.lastKnock()
	}
	for i, want := range []knock.Result{knock.OK, knock.OK, knock.LimitReached} {
		if got := send("192.0.2.1"); got != want {
			t.Fatalf("knock %d of a source: %v, want %v", i, got, want)
		}
	}
	if got := send("192.0.2.2"); got != knock.OK {
		t.Fatal(got)
	}
	if got := send("192.0.2.3"); got != knock.LimitReached {
		t.Fatal(got)
	}
	h.Advance(testTTL + testDeadline + 1)
	h.sweep()
	h.wantEmpty()
	if got := send("192.0.2.3"); got != knock.OK {
		t.Fatal(got)
	}
}

func TestEventNamesClientAndSkew(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("2001:db8::1")
	m := peer.message("")
	m.Time += 1500
	h.want(peer.sealKnock(bob, "db", m), ReasonKnock)
	h.decide()
	want := knock.Event{Result: knock.OK, Source: peer.addr, Client: "bob", Service: "db6", Method: "udp", Skew: 1500 * time.Millisecond, Timed: true}
	if h.events[0] != want {
		t.Errorf("%+v, want %+v", h.events[0], want)
	}
	m.Method = "a label that a client made up"
	h.want(peer.sealKnock(bob, "db", m), ReasonKnock)
	h.decide()
	if got := h.events[1].Method; got != "other" {
		t.Errorf("method %q goes into a metric", got)
	}
	h.want(peer.junk(), ReasonKnock)
	h.decide()
	if got := h.events[2]; got != (knock.Event{Result: knock.UnknownClient, Source: peer.addr}) {
		t.Errorf("%+v", got)
	}
}
