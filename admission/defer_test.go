package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

func TestDeferredSYNIsDeliveredUnchanged(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"db", "ssh"} {
			w := newHarness(t)
			v := w.at(addr)
			syn := v.syn(40000, service)
			w.want(v.knock(alice, service), ReasonKnock)
			w.want(syn, ReasonDeferred)
			w.decide()
			if len(w.delivered) != 1 || w.delivered[0].data != string(syn) || w.delivered[0].verdict != (Verdict{Action: Pass, Reason: ReasonGrant}) {
				t.Fatalf("%s %s: delivered %+v", addr, service, w.delivered)
			}
			v.enters(40000, service, alice)
		}
	})
}

func TestDeferredSYNOrder(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	for i := range 6 {
		w.want(v.sealed(alice, "ssh", v.message(sessionID(i))), ReasonKnock)
	}
	for port := range uint16(6) {
		w.want(v.syn(40000+port, "ssh"), ReasonDeferred)
	}
	w.decide()
	for i, d := range w.delivered {
		if d.data != string(v.syn(40000+uint16(i), "ssh")) {
			t.Errorf("SYN %d is out of order", i)
		}
	}
	if len(w.delivered) != 6 {
		t.Fatalf("%d SYNs delivered", len(w.delivered))
	}
	for i := range 6 {
		v.handshakes(40000+uint16(i), "ssh")
		if err := v.authenticates(40000+uint16(i), "ssh", alice, sessionID(5-i)); err != nil {
			t.Error(err)
		}
	}
}

func TestDeferredSYNWaitsForAllKnocks(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	// More junk than one batch, so that decisions come before the knock's.
	for range 2 * knock.Batch {
		w.want(v.junk(), ReasonKnock)
	}
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.worker.Step()
	w.check()
	if len(w.delivered) != 0 {
		t.Fatal("delivered too early")
	}
	w.decide()
	if len(w.delivered) != 1 {
		t.Fatal("not delivered")
	}
}

func TestDeferredSYNWithoutGrantIsDropped(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.junk(), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.want(v.knock(alice, "ssh"), ReasonKnock)
	w.decide()
	if len(w.delivered) != 0 {
		t.Errorf("delivered %v", w.delivered[0].verdict)
	}
	if got := w.count(ReasonDeferTimeout); got != 1 {
		t.Errorf("%d counted as dropped", got)
	}
	w.pass(testTTL + testDeadline + 1)
	w.sweep()
	w.empty()
}

func (w *harness) count(r Reason) uint64 { return w.gate.stats.reasons[r].Load() }

func TestDeferredSYNTimesOut(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.pass(deferTime - 1)
	w.want(v.syn(40001, "db"), ReasonDeferred)
	w.sweep()
	if got := w.count(ReasonDeferTimeout); got != 0 {
		t.Fatalf("%d dropped early", got)
	}
	w.pass(1)
	w.sweep()
	if got := w.count(ReasonDeferTimeout); got != 1 {
		t.Fatalf("%d dropped", got)
	}
	w.decide()
	if len(w.delivered) != 1 || w.delivered[0].data != string(v.syn(40001, "db")) {
		t.Fatalf("%d delivered", len(w.delivered))
	}
}

func TestDeferredSYNLimits(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.DeferredSYNs, o.Limits.DeferredSYNsPerSource = 5, 3 })
	v, other := w.at("192.0.2.1"), w.at("192.0.2.2")
	w.want(v.junk(), ReasonKnock)
	w.want(other.junk(), ReasonKnock)
	for port := range uint16(3) {
		w.want(v.syn(40000+port, "db"), ReasonDeferred)
	}
	w.want(v.syn(40003, "db"), ReasonDeferFull)
	w.want(other.syn(40000, "db"), ReasonDeferred)
	w.want(other.syn(40001, "db"), ReasonDeferred)
	w.want(other.syn(40002, "db"), ReasonDeferFull)
	w.decide()
	w.empty()
	w.want(v.junk(), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
}

func TestDeferredSYNSizeLimit(t *testing.T) {
	w := newHarness(t)
	v := w.at("2001:db8::1")
	w.want(v.junk(), ReasonKnock)
	w.want(v.tcp(40000, "db", packet.SYN, 1, 0, string(make([]byte, 40))), ReasonDeferred)
	w.want(v.tcp(40001, "db", packet.SYN, 1, 0, string(make([]byte, 41))), ReasonDeferFull)
}

func TestDeferOnlyHiddenServices(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.junk(), ReasonKnock)
	for _, c := range refusals(v) {
		p := w.admit(c.b)
		switch {
		case c.want == ReasonNoGrant && p.Reason != ReasonDeferred:
			t.Errorf("%s: %v", c.name, p.Reason)
		case c.want != ReasonNoGrant && p.Reason != c.want:
			t.Errorf("%s: %v, want %v", c.name, p.Reason, c.want)
		}
	}
	w.want(v.syn(40000, "web"), ReasonOpen)
}

func TestDeferredSYNCopiesAreBothDelivered(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.decide()
	if len(w.delivered) != 2 || w.delivered[0].verdict.Reason != ReasonGrant || w.delivered[1].verdict.Reason != ReasonFlow {
		t.Fatalf("%+v", w.delivered)
	}
	if n := w.gate.Stats().Flows; n != 1 {
		t.Errorf("%d flows", n)
	}
}

func TestReloadDropsDeferredSYN(t *testing.T) {
	for name, change := range map[string]func(s *policy.Service){
		"open": func(s *policy.Service) { s.Mode = policy.ModeAuth },
		"gone": func(s *policy.Service) { s.Port = 9999 },
	} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		w.want(v.knock(alice, "db"), ReasonKnock)
		w.want(v.syn(40000, "db"), ReasonDeferred)
		o := policy.Options{Window: testWindow}
		for _, s := range w.gate.Policy().Services() {
			s := *s
			if s.Port == v.server("db").Port() {
				change(&s)
			}
			o.Services = append(o.Services, s)
		}
		p, err := policy.New(o)
		if err != nil {
			t.Fatal(err)
		}
		w.gate.SetPolicy(p)
		w.decide()
		if len(w.delivered) != 0 {
			t.Errorf("%s: delivered", name)
		}
	}
}
