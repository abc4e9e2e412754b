package admission

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/protocol"
)

func TestKnockThenSYNIsAdmitted(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"db", "ssh"} {
			w := newHarness(t)
			v := w.at(addr)
			w.want(v.syn(40000, service), ReasonNoGrant)
			v.knocks(alice, service, "")
			w.want(w.at(v.addr.Next().String()).syn(40000, service), ReasonNoGrant)
			if got := w.want(v.syn(40000, service), ReasonGrant); got.Open || got.TupleReused {
				t.Errorf("verdict %+v", got)
			}
			v.enters(40000, service, alice)
			w.want(v.tcp(40000, service, 0x10, 1001, 1, "data"), ReasonFlow)
		}
	})
}

func TestKnockGrantsOneService(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "ssh"), ReasonNoGrant)
	w.want(v.syn(40000, "many"), ReasonNoGrant)
	w.want(v.syn(40000, "db"), ReasonGrant)
}

func TestKnockAtServicePort(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	b := v.knock(alice, "db")
	w.want(v.udp(5432, b[28:]), ReasonKnock)
	w.decide()
	w.want(v.syn(40000, "db"), ReasonGrant)
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
		{"as it should be", alice, func(*protocol.KnockMessage) {}, knock.OK},
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
			w := newHarness(t, strict)
			v := w.at("192.0.2.1")
			m := v.message(sessionID(1))
			c.change(&m)
			w.want(v.sealed(c.client, "ssh", m), ReasonKnock)
			w.decide()
			if got := w.lastKnock(); got != c.want {
				t.Fatalf("result %v, want %v", got, c.want)
			}
			want := ReasonNoGrant
			if c.want == knock.OK {
				want = ReasonGrant
			}
			w.want(v.syn(40000, "ssh"), want)
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
		w := newHarness(t)
		v := w.at("192.0.2.1")
		m := v.message("")
		m.Time += c.off.Milliseconds()
		w.step(c.rest)
		w.want(v.sealed(alice, "db", m), ReasonKnock)
		w.decide()
		if got := w.lastKnock(); got != c.want {
			t.Errorf("%v off, %v into the millisecond: %v, want %v", c.off, c.rest, got, c.want)
		}
	}
}

func TestClockStepMovesOnlyWindow(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	old := v.knock(alice, "db")
	v.knocks(alice, "db", "")
	w.step(time.Hour)
	w.want(v.syn(40000, "db"), ReasonGrant) // a grant lasts by the monotonic clock
	w.want(old, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.Stale {
		t.Errorf("an hour later by the wall clock: %v", got)
	}
	v.knocks(alice, "db", "")
	w.step(-time.Hour)
	w.want(old, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.OK {
		t.Errorf("with the clock set back: %v", got)
	}
}

func TestKnockIsAcceptedOnce(t *testing.T) {
	w := newHarness(t)
	v, thief := w.at("192.0.2.1"), w.at("198.51.100.7")
	b := v.knock(alice, "db")
	w.want(b, ReasonKnock)
	w.want(b, ReasonKnock) // in the same batch
	w.decide()
	replayed := 0
	for _, e := range w.events {
		if e.Result == knock.Replayed {
			replayed++
		}
	}
	if replayed != 1 || len(w.events) != 2 {
		t.Fatalf("events: %+v", w.events)
	}
	w.want(thief.udp(testKnockPort, b[28:]), ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.Replayed {
		t.Fatalf("from another address: %v", got)
	}
	w.want(thief.syn(40000, "db"), ReasonNoGrant)
	// For as long as it is fresh, whatever the wall clock does meanwhile.
	for range 6 {
		w.pass(10 * time.Second)
		w.sweep()
		w.want(b, ReasonKnock)
		w.decide()
		if got := w.lastKnock(); got != knock.Replayed && got != knock.Stale {
			t.Fatalf("later: %v", got)
		}
	}
	w.step(-time.Minute)
	w.want(b, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.Replayed {
		t.Fatalf("with the clock set back: %v", got)
	}
}

func TestKnockReplayAfterRestart(t *testing.T) {
	dir := t.TempDir()
	clocks := newTestClocks()
	file := func(o *Options) {
		s := openFile(t, dir, clocks.options())
		o.Store, o.Now, o.Mono = s, clocks.options().Now, clocks.options().Mono
	}
	w := newHarness(t, file)
	b := w.at("192.0.2.1").knock(alice, "db")
	w.want(b, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.OK {
		t.Fatal(got)
	}
	_ = w.gate.store.Close()
	w = newHarness(t, file)
	w.want(b, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.Replayed {
		t.Fatalf("after a restart: %v", got)
	}
}

// brokenStore refuses everything with an error.
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
		w := newHarness(t, func(o *Options) { o.Store = brokenStore{c.err} })
		v := w.at("192.0.2.1")
		w.want(v.knock(alice, "db"), ReasonKnock)
		w.want(v.syn(40000, "db"), ReasonDeferred)
		w.decide()
		if got := w.lastKnock(); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
		w.want(v.syn(40001, "db"), ReasonNoGrant)
		if len(w.delivered) != 0 {
			t.Errorf("%v: the deferred SYN was delivered", c.err)
		}
		w.empty()
	}
}

func TestKnockQueueLimits(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.Knocks, o.Limits.KnocksPerSource = 10, 4 })
	greedy := w.at("198.51.100.1")
	for range 4 {
		w.want(greedy.junk(), ReasonKnock)
	}
	w.want(greedy.junk(), ReasonQueueFull)
	others := w.at("198.51.100.2")
	for range 6 {
		w.want(others.junk(), ReasonKnock)
		others.addr = others.addr.Next()
	}
	w.want(others.junk(), ReasonQueueFull)
	w.want(w.at("192.0.2.1").knock(alice, "db"), ReasonQueueFull)
	w.decide()
	w.empty()
	w.at("192.0.2.1").knocks(alice, "db", "")
}

func TestGrantLimits(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.Grants, o.Limits.GrantsPerSource = 3, 2 })
	send := func(addr string) knock.Result {
		w.want(w.at(addr).knock(alice, "db"), ReasonKnock)
		w.decide()
		return w.lastKnock()
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
	w.pass(testTTL + testDeadline + 1)
	w.sweep()
	w.empty()
	if got := send("192.0.2.3"); got != knock.OK {
		t.Fatal(got)
	}
}

func TestEventNamesClientAndSkew(t *testing.T) {
	w := newHarness(t)
	v := w.at("2001:db8::1")
	m := v.message("")
	m.Time += 1500
	w.want(v.sealed(bob, "db", m), ReasonKnock)
	w.decide()
	want := knock.Event{Result: knock.OK, Source: v.addr, Client: "bob", Service: "db6", Method: "udp", Skew: 1500 * time.Millisecond, Timed: true}
	if w.events[0] != want {
		t.Errorf("%+v, want %+v", w.events[0], want)
	}
	m.Method = "a label that a client made up"
	w.want(v.sealed(bob, "db", m), ReasonKnock)
	w.decide()
	if got := w.events[1].Method; got != "other" {
		t.Errorf("method %q goes into a metric", got)
	}
	w.want(v.junk(), ReasonKnock)
	w.decide()
	if got := w.events[2]; got != (knock.Event{Result: knock.UnknownClient, Source: v.addr}) {
		t.Errorf("%+v", got)
	}
}
