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

// What merely looks like a v1 knock, with a known client's address, must not
// drain the buckets of the methods that are found by a look-up, nor the other
// way round.
func TestKnockMethodsHaveOwnBudgets(t *testing.T) {
	const perSecond, seconds = 5000, 3
	w := newHarness(t, every(), func(o *Options) { o.Limits = Limits{} })
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "") // the address is known
	for n := range perSecond * seconds {
		w.gate.Admit(parsed(v.junk()))
		for w.worker.Step() {
		}
		if n%100 == 0 {
			w.events = nil
			if got := w.gate.Admit(parsed(v.v2(bob, "db"))); got.Reason != ReasonKnock {
				t.Fatalf("udp-v2 after %d datagrams of junk: %v", n, got.Reason)
			}
			w.worker.Step()
			if len(w.events) != 1 || w.events[0].Result != knock.OK {
				t.Fatalf("udp-v2 after %d datagrams of junk: %+v", n, w.events)
			}
			v.expire()
		}
		w.pass(time.Second / perSecond)
	}
	if got := w.gate.Admit(parsed(v.synKnock(bob, "db", 0))); got.Reason != ReasonKnock {
		t.Errorf("tcp-syn: %v", got.Reason)
	}
	w.decide()
}

// expire ends the grants of the testPeer.
func (v testPeer) expire() {
	v.w.gate.Revoke(Target{GrantsOnly: true})
}

// openAndHidden has clients of an open service and of a hidden one that takes
// udp-v2.
func openAndHidden(clients []*policy.Client) func(*Options) {
	return func(o *Options) {
		every(having(clients...), taking(policy.MethodUDPv2), func(p *policy.Options) {
			p.Services = append(only(slices.Clone(p.Services), "web4"), only(slices.Clone(p.Services), "db4")...)
		})(o)
		o.Limits, o.Knocked = Limits{}, nil
	}
}

// junkPerSecond is what once took two processors with ten thousand clients.
const junkPerSecond = 270

func TestJunkAtOpenServiceSparesHidden(t *testing.T) {
	const clients, seconds = 10_000, 3
	all := manyClients(clients)
	w := newHarness(t, openAndHidden(all))
	hmacs, knocked := 0, 0
	for n := range junkPerSecond * seconds {
		v := w.at("198.51.100.1").spoofed(n * 257)
		if got := w.gate.Admit(parsed(v.syn(40000, "web"))); got.Reason != ReasonOpen {
			t.Fatal(got.Reason)
		}
		if err := w.gate.HandshakeDone(v.tuple(40000, "web")); err != nil {
			t.Fatal(err)
		}
		if all, ok := w.gate.OtherCandidates(v.tuple(40000, "web")); ok {
			w.gate.mu.Lock() // candidates are walked without it, or this hangs
			for range all {
				hmacs++
			}
			w.gate.mu.Unlock()
		}
		w.gate.Remove(v.tuple(40000, "web"))
		if n%50 == 0 {
			c := w.at("192.0.2.1").spoofed(1_000_000 + n)
			w.gate.Admit(parsed(c.v2(all[n%clients].Keys[0].Identity, "db")))
			w.worker.Step()
			if got := w.gate.Admit(parsed(c.syn(1, "db"))); got.Reason != ReasonGrant {
				t.Fatalf("a client of a hidden service after %d connections: %v", n, got.Reason)
			}
			knocked++
		}
		w.pass(time.Second / junkPerSecond)
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
			w := newHarness(t, openAndHidden(manyClients(clients)))
			v := w.at("192.0.2.1")
			w.gate.Admit(parsed(v.syn(40000, "web")))
			const most = 8 // whatever the number of clients
			if n := testing.AllocsPerRun(100, func() {
				w.gate.Candidates(v.tuple(40000, "web"))
				w.gate.OtherCandidates(v.tuple(40000, "web"))
				w.pass(time.Second)
			}); n > most {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// A hundred clients behind one address, each with its knock and its connection
// at the same moment, by any method.
func TestGateAdmitsHundredClientsOfOneAddress(t *testing.T) {
	const people = 100
	for name, knock := range map[string]func(testPeer, *protocol.Client) []byte{
		"udp":     func(v testPeer, c *protocol.Client) []byte { return v.knock(c, "ssh") },
		"udp-v2":  func(v testPeer, c *protocol.Client) []byte { return v.v2(c, "ssh") },
		"tcp-syn": func(v testPeer, c *protocol.Client) []byte { return v.synKnock(c, "ssh", 0) },
	} {
		all := manyClients(people)
		w := newHarness(t, every(having(all...)), func(o *Options) { o.Limits = Limits{} })
		v := w.at("192.0.2.1")
		for n, c := range all {
			if got := w.gate.Admit(parsed(knock(v, c.Keys[0].Identity))); got.Reason != ReasonKnock {
				t.Fatalf("%s: knock %d: %v", name, n, got.Reason)
			}
			if got := w.gate.Admit(parsed(v.syn(uint16(40000+n), "ssh"))); got.Reason != ReasonDeferred {
				t.Fatalf("%s: SYN %d: %v", name, n, got.Reason)
			}
		}
		w.decide()
		in := 0
		for _, d := range w.delivered {
			if d.verdict.Reason == ReasonGrant {
				in++
			}
		}
		if in != people {
			t.Errorf("%s: %d of %d get in", name, in, people)
		}
	}
}

// A client whose own knock was dropped, and whose SYN found a neighbour's grant,
// is recognised all the same, and waits for the knock that it sends again.
func TestAuthenticateOnNeighborsGrant(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	w.want(v.syn(40000, "ssh"), ReasonGrant) // bob's
	v.handshakes(40000, "ssh")
	if got := names(w.others(v.tuple(40000, "ssh"))); got != "alice bob " {
		t.Fatalf("candidates: %q", got)
	}
	if err := v.authenticates(40000, "ssh", bob, ""); !errors.Is(err, ErrNoGrant) {
		t.Fatal(err)
	}
	v.knocks(bob, "ssh", "")
	if err := v.authenticates(40000, "ssh", bob, ""); err != nil {
		t.Error(err)
	}
	if n := w.gate.Stats().Bans; n != 0 {
		t.Errorf("%d bans", n)
	}
}
