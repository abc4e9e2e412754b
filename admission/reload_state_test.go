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
		"udp":     func(peer testPeer, c *protocol.Client) []byte { return peer.knock(c, "db") },
		"udp-v2":  func(peer testPeer, c *protocol.Client) []byte { return peer.v2(c, "db") },
		"tcp-syn": func(peer testPeer, c *protocol.Client) []byte { return peer.synKnock(c, "db", 0) },
	} {
		for _, c := range []struct {
			name   string
			change func(*policy.Options)
			want   knock.Result
		}{
			{"nothing", func(*policy.Options) {}, knock.OK},
			{"another client", removeClient("bob"), knock.OK},
			{"a service before it", removeServices("ssh"), knock.OK},
			{"its client", removeClient("alice"), knock.UnknownClient},
			{"its service", removeServices("db"), knock.UnknownClient},
			{"its secret", replaceKeys("alice", secondSecret()), knock.UnknownClient},
			{"its method", withMethods(0), knock.UnknownClient},
		} {
			h := newHarness(t, allMethods())
			peer := h.peer("192.0.2.1")
			h.want(send(peer, alice), ReasonKnock)
			h.want(peer.syn(40000, "db"), ReasonDeferred)
			h.reload(c.change)
			h.decide()
			if got := h.lastKnock(); got != c.want {
				t.Errorf("%s without %s: %v, want %v", method, c.name, got, c.want)
			}
			if got := len(h.delivered); (got == 1) != (c.want == knock.OK) {
				t.Errorf("%s without %s: %d deferred SYNs delivered", method, c.name, got)
			}
		}
	}
}

func TestReloadKeepsSequences(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	for i := range 2 {
		h.want(peer.synPart(alice, "db", 0, i), ReasonKnockPart)
		h.reload(removeClient("bob", "many"))
	}
	h.want(peer.synPart(alice, "db", 0, 2), ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.OK {
		t.Errorf("%v", got)
	}
}

// The fields of a SYN knock name no source: the first sender may present them
// again.
func TestReloadKeepsSYNKnockClaim(t *testing.T) {
	h := newHarness(t, allMethods())
	b := h.peer("192.0.2.1").synKnock(alice, "ssh", 0)
	h.want(b, ReasonKnock)
	h.decide()
	h.reload(removeClient("bob", "many"))
	h.want(b, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.OK {
		t.Errorf("its owner: %v", got)
	}
	c := h.peer("192.0.2.66").synAs(h.peer("192.0.2.1").synFields(alice, "ssh", 0), h.peer("192.0.2.1").server("ssh"))
	h.want(c, ReasonKnock)
	h.decide()
	if got := h.lastKnock(); got != knock.Replayed {
		t.Errorf("another host: %v", got)
	}
}

func TestReloadKeepsBansAndBudgets(t *testing.T) {
	h := newHarness(t, withShortBans)
	peer, known := h.peer("192.0.2.1"), h.peer("192.0.2.2")
	for range 3 {
		peer.failAuth(1, "web")
	}
	for range testUnknownBurst {
		h.want(peer.junk(), ReasonKnock)
		h.decide()
	}
	known.mustKnock(alice, "db", "")
	h.gate.SetLimits(Limits{}, Ban{After: 3, Within: time.Minute, For: time.Minute})
	h.reload(removeClient("bob", "many"))
	h.want(peer.syn(1, "web"), ReasonBanned)
	h.want(peer.junk(), ReasonBudget)
	if !h.gate.knocks.Known.Known(packet.AddrFrom(known.addr), h.gate.mono()) {
		t.Error("who knocked is forgotten")
	}
}

func TestSetLimits(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustConnect(alice, "web", 1)
	h.gate.SetLimits(Limits{FlowsPerSource: 1}, Ban{After: 1, Within: time.Minute, For: time.Minute})
	h.want(peer.syn(2, "web"), ReasonSourceLimit)
	if !peer.alive(1, "web") {
		t.Error("a flow from before is gone")
	}
	h.gate.SetLimits(Limits{FlowsPerSource: 2}, Ban{})
	peer.failAuth(2, "web")
	h.want(peer.syn(3, "web"), ReasonOpen)
}

func TestReloadKeepsCookieMode(t *testing.T) {
	h := newHarness(t, fewHalfOpen)
	peer := h.peer("192.0.2.1")
	for port := range uint16(5) {
		h.want(peer.syn(1000+port, "web"), ReasonOpen)
	}
	h.reload(removeClient("bob"))
	h.want(peer.tcp(1, "web", 0x10, 1001, 1, ""), ReasonCookie)
}

func TestReloadAddsServiceForAllMethods(t *testing.T) {
	h := newHarness(t, allMethods(removeServices("db")))
	peer := h.peer("192.0.2.1")
	before := h.gate.Policy()
	full := reloadedPolicy(testPolicy(alice, bob), withMethods(allFamilies))
	h.want(peer.syn(1, "db"), ReasonNotService)
	h.gate.SetPolicy(reloadedPolicy(full, func(o *policy.Options) { o.After, o.Gateway = before, testGateway }))
	h.check()
	for method, b := range map[string][]byte{
		"udp": peer.knock(alice, "db"), "udp-v2": peer.v2(alice, "db"), "tcp-syn": peer.synKnock(alice, "db", 0),
	} {
		h.want(b, ReasonKnock)
		h.decide()
		if got := h.lastKnock(); got != knock.OK {
			t.Errorf("%s: %v", method, got)
		}
	}
}

func TestPolicySharesIdentities(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	peer.mustConnect(alice, "db", 1)
	old := h.gate.Policy()
	next := reloadedPolicy(old)
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
	h := newHarness(t, func(o *Options) { o.Ban = Ban{After: 3, Within: time.Minute, For: time.Minute} })
	h.gate.SetLimits(Limits{}, Ban{After: 1, Within: time.Minute, For: time.Minute})
	peer := h.peer("192.0.2.1")
	h.want(peer.syn(1, "web"), ReasonOpen)
	peer.mustHandshake(1, "web")
	h.gate.Failed(peer.tuple(1, "web"))
	h.want(peer.syn(2, "web"), ReasonBanned)
}
