package admission

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// Datagrams that only look like v1 knocks, with a known client's address, must
// not drain the buckets of the methods found by look-up, nor vice versa.
func TestKnockMethodsHaveOwnBudgets(t *testing.T) {
	const perSecond, seconds = 5000, 3
	h := newHarness(t, allMethods(), func(o *Options) { o.Limits = Limits{} })
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "") // the address is known
	for n := range perSecond * seconds {
		h.gate.Admit(parsed(peer.junk()))
		for h.worker.Step() {
		}
		if n%100 == 0 {
			h.events = nil
			if got := h.gate.Admit(parsed(peer.v2(bob, "db"))); got.Reason != ReasonKnock {
				t.Fatalf("udp-v2 after %d datagrams of junk: %v", n, got.Reason)
			}
			h.worker.Step()
			if len(h.events) != 1 || h.events[0].Result != knock.OK {
				t.Fatalf("udp-v2 after %d datagrams of junk: %+v", n, h.events)
			}
			peer.expireGrants()
		}
		h.Advance(time.Second / perSecond)
	}
	if got := h.gate.Admit(parsed(peer.synKnock(bob, "db", 0))); got.Reason != ReasonKnock {
		t.Errorf("tcp-syn: %v", got.Reason)
	}
	h.decide()
}

// expireGrants ends the grants of peer.
func (peer testPeer) expireGrants() {
	peer.h.gate.Revoke(Target{GrantsOnly: true})
}

// withOpenAndHidden gives clients an open service and a hidden one that accepts
// udp-v2.
func withOpenAndHidden(clients []*policy.Client) func(*Options) {
	return func(o *Options) {
		allMethods(withClients(clients...), withMethods(policy.MethodUDPv2), func(p *policy.Options) {
			p.Services = append(only(slices.Clone(p.Services), "web4"), only(slices.Clone(p.Services), "db4")...)
		})(o)
		o.Limits, o.Knocked = Limits{}, nil
	}
}

// junkPerSecond once took two processors with ten thousand clients.
const junkPerSecond = 270

func TestJunkAtOpenServiceSparesHidden(t *testing.T) {
	const clients, seconds = 10_000, 3
	all := manyClients(clients)
	h := newHarness(t, withOpenAndHidden(all))
	hmacs, knocked := 0, 0
	for n := range junkPerSecond * seconds {
		peer := h.peer("198.51.100.1").spoofed(n * 257)
		if got := h.gate.Admit(parsed(peer.syn(40000, "web"))); got.Reason != ReasonOpen {
			t.Fatal(got.Reason)
		}
		if err := h.gate.HandshakeDone(peer.tuple(40000, "web")); err != nil {
			t.Fatal(err)
		}
		if all, ok := h.gate.OtherCandidates(peer.tuple(40000, "web")); ok {
			h.gate.mu.Lock() // candidates are walked without it, or this hangs
			for range all {
				hmacs++
			}
			h.gate.mu.Unlock()
		}
		h.gate.Remove(peer.tuple(40000, "web"))
		if n%50 == 0 {
			c := h.peer("192.0.2.1").spoofed(1_000_000 + n)
			h.gate.Admit(parsed(c.v2(all[n%clients].Keys[0].Identity, "db")))
			h.worker.Step()
			if got := h.gate.Admit(parsed(c.syn(1, "db"))); got.Reason != ReasonGrant {
				t.Fatalf("a client of a hidden service after %d connections: %v", n, got.Reason)
			}
			knocked++
		}
		h.Advance(time.Second / junkPerSecond)
	}
	if most := seconds*testHMACRate + testHMACBurst; hmacs > most {
		t.Errorf("%d HMACs for junk, at most %d are paid for", hmacs, most)
	}
	if knocked == 0 {
		t.Error("no client knocked")
	}
}

func TestCandidatesCost(t *testing.T) {
	for _, clients := range []int{10, 10_000} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			h := newHarness(t, withOpenAndHidden(manyClients(clients)))
			peer := h.peer("192.0.2.1")
			h.gate.Admit(parsed(peer.syn(40000, "web")))
			const most = 8 // whatever the number of clients
			if n := testing.AllocsPerRun(100, func() {
				h.gate.Candidates(peer.tuple(40000, "web"))
				h.gate.OtherCandidates(peer.tuple(40000, "web"))
				h.Advance(time.Second)
			}); n > most {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// A hundred clients behind one address knock and connect at the same moment, by
// any method.
func TestGateAdmitsHundredClientsOfOneAddress(t *testing.T) {
	const people = 100
	for name, knock := range map[string]func(testPeer, *protocol.Client) []byte{
		"udp":     func(peer testPeer, c *protocol.Client) []byte { return peer.knock(c, "ssh") },
		"udp-v2":  func(peer testPeer, c *protocol.Client) []byte { return peer.v2(c, "ssh") },
		"tcp-syn": func(peer testPeer, c *protocol.Client) []byte { return peer.synKnock(c, "ssh", 0) },
	} {
		all := manyClients(people)
		h := newHarness(t, allMethods(withClients(all...)), func(o *Options) { o.Limits = Limits{} })
		peer := h.peer("192.0.2.1")
		for n, c := range all {
			if got := h.gate.Admit(parsed(knock(peer, c.Keys[0].Identity))); got.Reason != ReasonKnock {
				t.Fatalf("%s: knock %d: %v", name, n, got.Reason)
			}
			if got := h.gate.Admit(parsed(peer.syn(uint16(40000+n), "ssh"))); got.Reason != ReasonDeferred {
				t.Fatalf("%s: SYN %d: %v", name, n, got.Reason)
			}
		}
		h.decide()
		in := 0
		for _, d := range h.delivered {
			if d.verdict.Reason == ReasonGrant {
				in++
			}
		}
		if in != people {
			t.Errorf("%s: %d of %d get in", name, in, people)
		}
	}
}

// A client whose own knock was dropped, and whose SYN used a neighbor's grant,
// is still recognized, and waits for the knock that it sends again.
func TestAuthenticateOnNeighborsGrant(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.syn(40000, "ssh"), ReasonGrant) // bob's
	peer.mustHandshake(40000, "ssh")
	if got := names(h.candidates(peer.tuple(40000, "ssh"))); got != "alice bob " {
		t.Fatalf("candidates: %q", got)
	}
	if err := peer.authenticate(40000, "ssh", bob, ""); !errors.Is(err, ErrNoGrant) {
		t.Fatal(err)
	}
	peer.mustKnock(bob, "ssh", "")
	if err := peer.authenticate(40000, "ssh", bob, ""); err != nil {
		t.Error(err)
	}
	if n := h.gate.Stats().Bans; n != 0 {
		t.Errorf("%d bans", n)
	}
}
