package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

func TestDeferredSYNIsDeliveredUnchanged(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"db", "ssh"} {
			h := newHarness(t)
			peer := h.peer(addr)
			syn := peer.syn(40000, service)
			h.want(peer.knock(alice, service), ReasonKnock)
			h.want(syn, ReasonDeferred)
			h.decide()
			if len(h.delivered) != 1 || h.delivered[0].data != string(syn) || h.delivered[0].verdict != (Verdict{Action: Pass, Reason: ReasonGrant}) {
				t.Fatalf("%s %s: delivered %+v", addr, service, h.delivered)
			}
			peer.mustEnter(40000, service, alice)
		}
	})
}

func TestDeferredSYNOrder(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	for i := range 6 {
		h.want(peer.sealKnock(alice, "ssh", peer.message(sessionID(i))), ReasonKnock)
	}
	for port := range uint16(6) {
		h.want(peer.syn(40000+port, "ssh"), ReasonDeferred)
	}
	h.decide()
	for i, d := range h.delivered {
		if d.data != string(peer.syn(40000+uint16(i), "ssh")) {
			t.Errorf("SYN %d is out of order", i)
		}
	}
	if len(h.delivered) != 6 {
		t.Fatalf("%d SYNs delivered", len(h.delivered))
	}
	for i := range 6 {
		peer.mustHandshake(40000+uint16(i), "ssh")
		if err := peer.authenticate(40000+uint16(i), "ssh", alice, sessionID(5-i)); err != nil {
			t.Error(err)
		}
	}
}

func TestDeferredSYNWaitsForAllKnocks(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	// More junk than one batch, so that some is decided before the knock.
	for range 2 * knock.Batch {
		h.want(peer.junk(), ReasonKnock)
	}
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.worker.Step()
	h.check()
	if len(h.delivered) != 0 {
		t.Fatal("delivered too early")
	}
	h.decide()
	if len(h.delivered) != 1 {
		t.Fatal("not delivered")
	}
}

func TestDeferredSYNWithoutGrantIsDropped(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.junk(), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.want(peer.knock(alice, "ssh"), ReasonKnock)
	h.decide()
	if len(h.delivered) != 0 {
		t.Errorf("delivered %v", h.delivered[0].verdict)
	}
	if got := h.dropCount(ReasonDeferTimeout); got != 1 {
		t.Errorf("%d counted as dropped", got)
	}
	h.Advance(testTTL + testDeadline + 1)
	h.sweep()
	h.wantEmpty()
}

func (h *harness) dropCount(r Reason) uint64 { return h.gate.stats.reasons[r].Load() }

func TestDeferredSYNTimesOut(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.Advance(deferTime - 1)
	h.want(peer.syn(40001, "db"), ReasonDeferred)
	h.sweep()
	if got := h.dropCount(ReasonDeferTimeout); got != 0 {
		t.Fatalf("%d dropped early", got)
	}
	h.Advance(1)
	h.sweep()
	if got := h.dropCount(ReasonDeferTimeout); got != 1 {
		t.Fatalf("%d dropped", got)
	}
	h.decide()
	if len(h.delivered) != 1 || h.delivered[0].data != string(peer.syn(40001, "db")) {
		t.Fatalf("%d delivered", len(h.delivered))
	}
}

func TestDeferredSYNLimits(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.DeferredSYNs, o.Limits.DeferredSYNsPerSource = 5, 3 })
	peer, other := h.peer("192.0.2.1"), h.peer("192.0.2.2")
	h.want(peer.junk(), ReasonKnock)
	h.want(other.junk(), ReasonKnock)
	for port := range uint16(3) {
		h.want(peer.syn(40000+port, "db"), ReasonDeferred)
	}
	h.want(peer.syn(40003, "db"), ReasonDeferFull)
	h.want(other.syn(40000, "db"), ReasonDeferred)
	h.want(other.syn(40001, "db"), ReasonDeferred)
	h.want(other.syn(40002, "db"), ReasonDeferFull)
	h.decide()
	h.wantEmpty()
	h.want(peer.junk(), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
}

func TestDeferredSYNSizeLimit(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("2001:db8::1")
	h.want(peer.junk(), ReasonKnock)
	h.want(peer.tcp(40000, "db", packet.SYN, 1, 0, string(make([]byte, 40))), ReasonDeferred)
	h.want(peer.tcp(40001, "db", packet.SYN, 1, 0, string(make([]byte, 41))), ReasonDeferFull)
}

func TestDeferOnlyHiddenServices(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.junk(), ReasonKnock)
	for _, c := range unauthorizedPackets(peer) {
		p := h.admit(c.b)
		switch {
		case c.want == ReasonNoGrant && p.Reason != ReasonDeferred:
			t.Errorf("%s: %v", c.name, p.Reason)
		case c.want != ReasonNoGrant && p.Reason != c.want:
			t.Errorf("%s: %v, want %v", c.name, p.Reason, c.want)
		}
	}
	h.want(peer.syn(40000, "web"), ReasonOpen)
}

func TestDeferredSYNCopiesAreBothDelivered(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.decide()
	if len(h.delivered) != 2 || h.delivered[0].verdict.Reason != ReasonGrant || h.delivered[1].verdict.Reason != ReasonFlow {
		t.Fatalf("%+v", h.delivered)
	}
	if n := h.gate.Stats().Flows; n != 1 {
		t.Errorf("%d flows", n)
	}
}

func TestReloadDropsDeferredSYN(t *testing.T) {
	for name, change := range map[string]func(s *policy.Service){
		"open": func(s *policy.Service) { s.Mode = policy.ModeAuth },
		"gone": func(s *policy.Service) { s.Port = 9999 },
	} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		h.want(peer.knock(alice, "db"), ReasonKnock)
		h.want(peer.syn(40000, "db"), ReasonDeferred)
		o := policy.Options{Window: testWindow}
		for _, s := range h.gate.Policy().Services() {
			s := *s
			if s.Port == peer.server("db").Port() {
				change(&s)
			}
			o.Services = append(o.Services, s)
		}
		p, err := policy.New(o)
		if err != nil {
			t.Fatal(err)
		}
		h.gate.SetPolicy(p)
		h.decide()
		if len(h.delivered) != 0 {
			t.Errorf("%s: delivered", name)
		}
	}
}
