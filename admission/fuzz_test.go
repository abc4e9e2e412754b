package admission

import (
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// Whatever comes, no knock of a client that has not knocked is found in it, by
// any method, and nothing gets in but by an open service.
func FuzzAdmitEveryMethod(f *testing.F) {
	seeds := newHarness(f, every(legacy))
	everywhere(func(addr string) {
		v := seeds.at(addr)
		for _, c := range refusals(v) {
			f.Add(c.b)
		}
		for _, method := range methodNames {
			for _, b := range methods[method](v, alice, "ssh") {
				f.Add(b)
			}
		}
		for _, b := range inFragments(v.tcp(40000, "vpn", packet.ACK, 1001, 1, "0123456789abcdef0123456789abcdef"), 1, 24) {
			f.Add(b)
		}
		f.Add(v.syn(40000, "web"))
	})
	// No knock in the corpus is known here.
	w := newHarness(f, every(legacy, having(policy.NewClient(testClient("dave")))), banning)
	everywhere(func(addr string) {
		v := w.at(addr) // has a flow, so that its fragments are kept
		v.knocks(testClient("dave"), "db", "")
		w.want(v.syn(30000, "db"), ReasonGrant)
		v.enters(30000, "db", alice)
	})
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		w.failer = t
		w.events = w.events[:0]
		w.pass(50 * time.Millisecond)
		if n++; n%1000 == 0 {
			w.pass(halfOpenTime + 1)
			w.turn()
			w.sweep()
		}
		v := w.admit(b)
		if v.Action != v.Reason.action() || v.Reason == ReasonGrant || v.Reason == ReasonKnockPart {
			t.Fatalf("%v %v", v.Action, v.Reason)
		}
		w.decide()
		for _, e := range w.events {
			if e.Client != "" || e.Result != knock.UnknownClient && e.Result != knock.BudgetExceeded {
				t.Fatalf("%+v", e)
			}
		}
		if v.Reason == ReasonFlow {
			if p := parsed(b); p.Tuple.DstPort != 443 && p.Tuple.DstPort != 8443 && p.Tuple.SrcPort != 30000 && p.DropReason == packet.NotDropped {
				t.Fatalf("let in: %v", p.Tuple)
			}
		}
	})
}
