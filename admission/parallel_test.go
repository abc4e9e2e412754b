package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/packet"
)

// Many connections start at once from one address, each with its knock.
func TestSimultaneousConnectionsAreAdmitted(t *testing.T) {
	const n = 40
	for name, order := range map[string]func(h *harness, knock, syn func(i int)){
		"all knocks, then all SYNs": func(_ *harness, knock, syn func(int)) {
			for i := range n {
				knock(i)
			}
			for i := range n {
				syn(i)
			}
		},
		"each SYN behind its knock": func(_ *harness, knock, syn func(int)) {
			for i := range n {
				knock(i)
				syn(i)
			}
		},
		"the first knock decided before the SYNs come": func(h *harness, knock, syn func(int)) {
			knock(0)
			h.decide()
			for i := 1; i < n; i++ {
				knock(i)
			}
			for i := range n {
				syn(i)
			}
		},
	} {
		for _, service := range []string{"db", "ssh"} {
			h := newHarness(t)
			peer := h.peer("192.0.2.1")
			order(h, func(i int) {
				h.want(peer.sealKnock(alice, service, peer.message(sessionID(i))), ReasonKnock)
			}, func(i int) {
				if got := h.admit(peer.syn(40000+uint16(i), service)); got.Action == Drop {
					t.Fatalf("%s: SYN %d: %v", name, i, got.Reason)
				}
			})
			h.decide()
			h.notifyEvictions()
			if len(h.evicted) != 0 {
				t.Fatalf("%s, %s: %d were evicted", name, service, len(h.evicted))
			}
			for i := range n {
				peer.mustHandshake(40000+uint16(i), service)
				if service == "ssh" {
					if err := peer.authenticate(40000+uint16(i), service, alice, sessionID(i)); err != nil {
						t.Fatalf("%s: connection %d: %v", name, i, err)
					}
				}
			}
			if s := h.gate.Stats(); s.Flows != n || s.Grants != 0 {
				t.Errorf("%s, %s: %d flows, %d grants left", name, service, s.Flows, s.Grants)
			}
		}
	}
}

func TestGrantSurvivesFasterConnection(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.decide()
	h.want(peer.knock(bob, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonGrant)
	h.want(peer.syn(40001, "db"), ReasonDeferred) // there is no other knock
	peer.mustHandshake(40000, "db")
	h.decide()
	peer.mustHandshake(40001, "db")
}

func TestDeferredSYNIgnoresLaterKnocks(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	for range knock.Batch - 1 {
		h.want(peer.junk(), ReasonKnock)
	}
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.want(peer.syn(40001, "db"), ReasonDeferred)
	for range knock.Batch {
		h.want(peer.junk(), ReasonKnock)
	}
	h.worker.Step()
	h.check()
	if len(h.delivered) != 2 {
		t.Errorf("%d delivered", len(h.delivered))
	}
}

func TestNeighborJunkDoesNotBlockClient(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1") // both share this address
	peer.mustKnock(alice, "db", "")
	for port := range uint16(ReservationsPerGrant) {
		h.want(peer.syn(1000+port, "db"), ReasonGrant)
	}
	h.want(peer.junk(), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	// The junk is not decided in time. The SYN must be admitted all the same.
	h.Advance(deferTime)
	h.sweep()
	if len(h.delivered) != 1 || h.delivered[0].verdict.Reason != ReasonGrant {
		t.Fatalf("delivered %+v", h.delivered)
	}
	peer.mustEnter(40000, "db", alice)
}

func TestDeferredSYNCounterWraps(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.junk(), ReasonKnock)
	h.gate.mu.Lock()
	h.gate.sources.byAddr[packet.AddrFrom(peer.addr)].done = 1<<32 - 2
	h.gate.mu.Unlock()
	for range knock.Batch {
		h.want(peer.junk(), ReasonKnock)
	}
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.worker.Step()
	h.check()
	if len(h.delivered) != 0 || h.dropCount(ReasonDeferTimeout) != 0 {
		t.Fatal("decided before its knock")
	}
	h.decide()
	if len(h.delivered) != 1 {
		t.Fatal("not delivered")
	}
}
