package admission

import (
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// No input contains a valid knock of a client that has not knocked, by any
// method, and only open services admit.
func FuzzAdmitEveryMethod(f *testing.F) {
	seeds := newHarness(f, allMethods(withLegacySequences))
	forEachFamily(func(addr string) {
		peer := seeds.peer(addr)
		for _, c := range unauthorizedPackets(peer) {
			f.Add(c.b)
		}
		for _, method := range methodNames {
			for _, b := range methods[method](peer, alice, "ssh") {
				f.Add(b)
			}
		}
		for _, b := range splitFragments(peer.tcp(40000, "vpn", packet.ACK, 1001, 1, "0123456789abcdef0123456789abcdef"), 1, 24) {
			f.Add(b)
		}
		f.Add(peer.syn(40000, "web"))
	})
	// No knock in the corpus is known to this gate.
	h := newHarness(f, allMethods(withLegacySequences, withClients(policy.NewClient(testClient("dave")))), withBans)
	forEachFamily(func(addr string) {
		peer := h.peer(addr) // has a flow, so that its fragments are kept
		peer.mustKnock(testClient("dave"), "db", "")
		h.want(peer.syn(30000, "db"), ReasonGrant)
		peer.mustEnter(30000, "db", alice)
	})
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		h.failer = t
		h.events = h.events[:0]
		h.Advance(50 * time.Millisecond)
		if n++; n%1000 == 0 {
			h.Advance(halfOpenTime + 1)
			h.rotateTable()
			h.sweep()
		}
		v := h.admit(b)
		if v.Action != v.Reason.action() || v.Reason == ReasonGrant || v.Reason == ReasonKnockPart {
			t.Fatalf("%v %v", v.Action, v.Reason)
		}
		h.decide()
		for _, e := range h.events {
			if e.Client != "" || e.Result != knock.UnknownClient && e.Result != knock.BudgetExceeded {
				t.Fatalf("%+v", e)
			}
		}
		if v.Reason == ReasonFlow {
			if p := parsed(b); p.Tuple.DstPort != 443 && p.Tuple.DstPort != 8443 && p.Tuple.SrcPort != 30000 && p.DropReason == packet.NotDropped {
				t.Fatalf("admitted: %v", p.Tuple)
			}
		}
	})
}
