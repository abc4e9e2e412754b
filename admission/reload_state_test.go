package admission

import (
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func TestReloadAppliesToQueuedKnocks(t *testing.T) {
	for method, send := range map[string]func(testPeer, *protocol.Client) []byte{
		"udp":     func(v testPeer, c *protocol.Client) []byte { return v.knock(c, "db") },
		"udp-v2":  func(v testPeer, c *protocol.Client) []byte { return v.v2(c, "db") },
		"tcp-syn": func(v testPeer, c *protocol.Client) []byte { return v.synKnock(c, "db", 0) },
	} {
		for _, c := range []struct {
			name   string
			change func(*policy.Options)
			want   knock.Result
		}{
			{"nothing", func(*policy.Options) {}, knock.OK},
			{"another client", without("bob"), knock.OK},
			{"a service before it", removing("ssh"), knock.OK},
			{"its client", without("alice"), knock.UnknownClient},
			{"its service", removing("db"), knock.UnknownClient},
			{"its secret", keyed("alice", other()), knock.UnknownClient},
			{"its method", taking(0), knock.UnknownClient},
		} {
			w := newHarness(t, every())
			v := w.at("192.0.2.1")
			w.want(send(v, alice), ReasonKnock)
			w.want(v.syn(40000, "db"), ReasonDeferred)
			w.reloads(c.change)
			w.decide()
			if got := w.lastKnock(); got != c.want {
				t.Errorf("%s without %s: %v, want %v", method, c.name, got, c.want)
			}
			if got := len(w.delivered); (got == 1) != (c.want == knock.OK) {
				t.Errorf("%s without %s: %d deferred SYNs delivered", method, c.name, got)
			}
		}
	}
}

func TestReloadKeepsSequences(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	for i := range 2 {
		w.want(v.synPart(alice, "db", 0, i), ReasonKnockPart)
		w.reloads(without("bob", "many"))
	}
	w.want(v.synPart(alice, "db", 0, 2), ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.OK {
		t.Errorf("%v", got)
	}
}

// The fields of a SYN knock name no source: the first sender may present them
// again.
func TestReloadKeepsSYNKnockClaim(t *testing.T) {
	w := newHarness(t, every())
	b := w.at("192.0.2.1").synKnock(alice, "ssh", 0)
	w.want(b, ReasonKnock)
	w.decide()
	w.reloads(without("bob", "many"))
	w.want(b, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.OK {
		t.Errorf("its owner: %v", got)
	}
	c := w.at("192.0.2.66").synAs(w.at("192.0.2.1").synFields(alice, "ssh", 0), w.at("192.0.2.1").server("ssh"))
	w.want(c, ReasonKnock)
	w.decide()
	if got := w.lastKnock(); got != knock.Replayed {
		t.Errorf("another host: %v", got)
	}
}

func TestReloadKeepsBansAndBudgets(t *testing.T) {
	w := newHarness(t, bans)
	v, known := w.at("192.0.2.1"), w.at("192.0.2.2")
	for range 3 {
		v.fails(1, "web")
	}
	for range testUnknownBurst {
		w.want(v.junk(), ReasonKnock)
		w.decide()
	}
	known.knocks(alice, "db", "")
	w.gate.SetLimits(Limits{}, Ban{After: 3, Within: time.Minute, For: time.Minute})
	w.reloads(without("bob", "many"))
	w.want(v.syn(1, "web"), ReasonBanned)
	w.want(v.junk(), ReasonBudget)
	if !w.gate.knocks.Known.Known(packet.AddrFrom(known.addr), w.gate.mono()) {
		t.Error("who knocked is forgotten")
	}
}

func TestSetLimits(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.begins(alice, "web", 1)
	w.gate.SetLimits(Limits{FlowsPerSource: 1}, Ban{After: 1, Within: time.Minute, For: time.Minute})
	w.want(v.syn(2, "web"), ReasonSourceLimit)
	if !v.lives(1, "web") {
		t.Error("a flow from before is gone")
	}
	w.gate.SetLimits(Limits{FlowsPerSource: 2}, Ban{})
	v.fails(2, "web")
	w.want(v.syn(3, "web"), ReasonOpen)
}

func TestReloadKeepsCookieMode(t *testing.T) {
	w := newHarness(t, fewHalfOpen)
	v := w.at("192.0.2.1")
	for port := range uint16(5) {
		w.want(v.syn(1000+port, "web"), ReasonOpen)
	}
	w.reloads(without("bob"))
	w.want(v.tcp(1, "web", 0x10, 1001, 1, ""), ReasonCookie)
}

func TestReloadAddsServiceForAllMethods(t *testing.T) {
	w := newHarness(t, every(removing("db")))
	v := w.at("192.0.2.1")
	before := w.gate.Policy()
	full := renewed(testPolicy(alice, bob), taking(allFamilies))
	w.want(v.syn(1, "db"), ReasonNotService)
	w.gate.SetPolicy(renewed(full, func(o *policy.Options) { o.After, o.Gateway = before, testGateway }))
	w.check()
	for method, b := range map[string][]byte{
		"udp": v.knock(alice, "db"), "udp-v2": v.v2(alice, "db"), "tcp-syn": v.synKnock(alice, "db", 0),
	} {
		w.want(b, ReasonKnock)
		w.decide()
		if got := w.lastKnock(); got != knock.OK {
			t.Errorf("%s: %v", method, got)
		}
	}
}

func TestPolicySharesIdentities(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	v.begins(alice, "db", 1)
	old := w.gate.Policy()
	next := renewed(old)
	for i, s := range next.Services() {
		if s == old.Services()[i] {
			t.Fatal("services are shared")
		}
		s.EachKey(func(k *policy.ClientKey) bool {
			if !slices.Contains(old.Services()[i].KeysOf(k.Identity.ID()), old.Services()[i].KeyOf(k.Identity)) ||
				old.Services()[i].KeyOf(k.Identity).Identity != k.Identity {
				t.Fatalf("the identity of %s is not shared", k.Identity.ID())
			}
			return true
		})
	}
}

func TestSetLimitsReplacesBan(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Ban = Ban{After: 3, Within: time.Minute, For: time.Minute} })
	w.gate.SetLimits(Limits{}, Ban{After: 1, Within: time.Minute, For: time.Minute})
	v := w.at("192.0.2.1")
	w.want(v.syn(1, "web"), ReasonOpen)
	v.handshakes(1, "web")
	w.gate.Failed(v.tuple(1, "web"))
	w.want(v.syn(2, "web"), ReasonBanned)
}
