package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/packet"
)

// Many connections that begin at once, each with its knock, from one address.
func TestSimultaneousConnectionsAreAdmitted(t *testing.T) {
	const n = 40
	for name, order := range map[string]func(w *harness, knock, syn func(i int)){
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
		"the first knock decided before the SYNs come": func(w *harness, knock, syn func(int)) {
			knock(0)
			w.decide()
			for i := 1; i < n; i++ {
				knock(i)
			}
			for i := range n {
				syn(i)
			}
		},
	} {
		for _, service := range []string{"db", "ssh"} {
			w := newHarness(t)
			v := w.at("192.0.2.1")
			order(w, func(i int) {
				w.want(v.sealed(alice, service, v.message(sessionID(i))), ReasonKnock)
			}, func(i int) {
				if got := w.admit(v.syn(40000+uint16(i), service)); got.Action == Drop {
					t.Fatalf("%s: SYN %d: %v", name, i, got.Reason)
				}
			})
			w.decide()
			w.tell()
			if len(w.evicted) != 0 {
				t.Fatalf("%s, %s: %d were evicted", name, service, len(w.evicted))
			}
			for i := range n {
				v.handshakes(40000+uint16(i), service)
				if service == "ssh" {
					if err := v.authenticates(40000+uint16(i), service, alice, sessionID(i)); err != nil {
						t.Fatalf("%s: connection %d: %v", name, i, err)
					}
				}
			}
			if s := w.gate.Stats(); s.Flows != n || s.Grants != 0 {
				t.Errorf("%s, %s: %d flows, %d grants left", name, service, s.Flows, s.Grants)
			}
		}
	}
}

func TestGrantSurvivesFasterConnection(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.decide()
	w.want(v.knock(bob, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonGrant)
	w.want(v.syn(40001, "db"), ReasonDeferred) // on whose knock else
	v.handshakes(40000, "db")
	w.decide()
	v.handshakes(40001, "db")
}

func TestDeferredSYNIgnoresLaterKnocks(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	for range knock.Batch - 1 {
		w.want(v.junk(), ReasonKnock)
	}
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.want(v.syn(40001, "db"), ReasonDeferred)
	for range knock.Batch {
		w.want(v.junk(), ReasonKnock)
	}
	w.worker.Step()
	w.check()
	if len(w.delivered) != 2 {
		t.Errorf("%d delivered", len(w.delivered))
	}
}

func TestNeighborJunkDoesNotBlockClient(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1") // both are behind it
	v.knocks(alice, "db", "")
	for port := range uint16(ReservationsPerGrant) {
		w.want(v.syn(1000+port, "db"), ReasonGrant)
	}
	w.want(v.junk(), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	// The junk is not decided in time. The SYN has a right to go in all the
	// same.
	w.pass(deferTime)
	w.sweep()
	if len(w.delivered) != 1 || w.delivered[0].verdict.Reason != ReasonGrant {
		t.Fatalf("delivered %+v", w.delivered)
	}
	v.enters(40000, "db", alice)
}

func TestDeferredSYNCounterWraps(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.junk(), ReasonKnock)
	w.gate.mu.Lock()
	w.gate.sources.byAddr[packet.AddrFrom(v.addr)].done = 1<<32 - 2
	w.gate.mu.Unlock()
	for range knock.Batch {
		w.want(v.junk(), ReasonKnock)
	}
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.worker.Step()
	w.check()
	if len(w.delivered) != 0 || w.count(ReasonDeferTimeout) != 0 {
		t.Fatal("decided before its knock")
	}
	w.decide()
	if len(w.delivered) != 1 {
		t.Fatal("not delivered")
	}
}
