package admission

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func TestRevokeTargets(t *testing.T) {
	forEachFamily(func(addr string) {
		here := netip.MustParseAddr(addr)
		elsewhere := here.Next()
		for _, c := range []struct {
			name   string
			target func(peer testPeer) Target
			ends   func(client, service string, from netip.Addr) bool
		}{
			{"everything", func(testPeer) Target { return Target{} },
				func(string, string, netip.Addr) bool { return true }},
			{"a client", func(testPeer) Target { return Target{Client: "alice"} },
				func(client, _ string, _ netip.Addr) bool { return client == "alice" }},
			{"a service", func(peer testPeer) Target {
				return Target{Service: peer.h.gate.Policy().Service(peer.server("db")).Name}
			},
				func(_, service string, _ netip.Addr) bool { return service == "db" }},
			{"a source", func(testPeer) Target { return Target{Source: netip.PrefixFrom(here, here.BitLen())} },
				func(_, _ string, from netip.Addr) bool { return from == here }},
			{"a client's at a source", func(testPeer) Target {
				return Target{Client: "bob", Source: netip.PrefixFrom(elsewhere, elsewhere.BitLen())}
			}, func(client, _ string, from netip.Addr) bool { return client == "bob" && from == elsewhere }},
			{"grants alone", func(testPeer) Target { return Target{Client: "alice", GrantsOnly: true} },
				func(string, string, netip.Addr) bool { return false }},
			{"an unauthorized host", func(testPeer) Target { return Target{Client: "mallory"} },
				func(string, string, netip.Addr) bool { return false }},
		} {
			h := newHarness(t)
			testPeers := []testPeer{h.peer(addr), h.peer(elsewhere.String())}
			ports := map[*protocol.Client]uint16{alice: 1000, bob: 2000}
			for _, peer := range testPeers {
				for client, port := range ports {
					for _, s := range serviceNames {
						peer.mustConnect(client, s, port)
					}
				}
			}
			h.evicted = nil
			r := h.gate.Revoke(c.target(testPeers[0]))
			h.check()
			want := 0
			for _, peer := range testPeers {
				for client, port := range ports {
					for _, s := range serviceNames {
						over := c.ends(client.ID(), s, peer.addr)
						if over {
							want++
						}
						if peer.alive(port, s) == over || slices.Contains(h.evicted, peer.tuple(port, s)) != over {
							t.Errorf("%s: %s's flow to %s from %v: over should be %v", c.name, client.ID(), s, peer.addr, over)
						}
					}
				}
			}
			if r.Flows != want {
				t.Errorf("%s: %d flows were ended, it says; %d were", c.name, r.Flows, want)
			}
		}
	})
}

func TestRevokedGrantAllowsNewKnock(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		peer.mustKnock(alice, "db", "")
		peer.mustKnock(bob, "many", "")
		if r := h.gate.Revoke(Target{Client: "alice"}); r.Grants != 1 || r.Flows != 0 {
			t.Errorf("%+v", r)
		}
		h.check()
		h.want(peer.syn(1, "db"), ReasonNoGrant)
		h.want(peer.syn(1, "many"), ReasonGrant)
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(2, "db"), ReasonGrant)
	})
}

func TestRevokeOneFlow(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "many", "")
	for _, port := range []uint16{1, 2} {
		h.want(peer.syn(port, "many"), ReasonGrant)
		peer.mustEnter(port, "many", alice)
	}
	r := h.gate.Revoke(Target{Flow: netip.AddrPortFrom(peer.addr, 1)})
	if r.Flows != 1 || r.Grants != 0 || peer.alive(1, "many") || !peer.alive(2, "many") {
		t.Errorf("%+v", r)
	}
	h.want(peer.syn(3, "many"), ReasonGrant) // the third use
}

func TestGrantsListsUnexpired(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		peer.mustKnock(alice, "many", "")
		h.want(peer.syn(1, "many"), ReasonGrant)
		h.Advance(time.Second)
		got := h.gate.Grants(10)
		want := Grant{
			Client: "alice", Service: h.gate.Policy().Service(peer.server("many")).Name, Source: peer.addr,
			Left: testTTL - time.Second, Uses: 3, Handshakes: 1,
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if n := len(h.gate.Grants(0)); n != 0 {
			t.Errorf("%d when none was asked for", n)
		}
		h.Advance(testTTL + testDeadline + time.Second)
		if got := h.gate.Grants(10); len(got) != 0 && got[0].Handshakes == 0 {
			t.Errorf("%+v is over", got)
		}
	})
}

func TestBansListAndUnban(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, withShortBans)
		peer := h.peer(addr)
		for range 3 {
			peer.failAuth(1, "web")
		}
		list := h.gate.Bans(10)
		if len(list) != 1 || !list[0].Source.Contains(peer.addr) || list[0].Left <= 0 {
			t.Fatalf("%+v", list)
		}
		h.want(peer.syn(1, "web"), ReasonBanned)
		if n := h.gate.Unban(netip.MustParsePrefix("198.51.100.0/24")); n != 0 {
			t.Errorf("%d others were pardoned", n)
		}
		if n := h.gate.Unban(netip.PrefixFrom(peer.addr, peer.addr.BitLen())); n != 1 || len(h.gate.Bans(10)) != 0 {
			t.Errorf("%d were pardoned", n)
		}
		h.want(peer.syn(1, "web"), ReasonOpen)
	})
}

func TestBatchYieldsLock(t *testing.T) {
	g := newHarness(t).gate
	got := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	go func() {
		g.mu.Lock()
		close(got)
		g.mu.Unlock()
	}()
	for b := (batch{}); ; b.yield(&g.mu) {
		select {
		case <-got:
			return
		default:
		}
	}
}

func TestGrantsListsAllBatches(t *testing.T) {
	g := newHarness(t, func(o *Options) { o.Ban = Ban{After: 1, Within: time.Hour, For: time.Hour} }).gate
	const many = 3*sweepBatch + 1
	g.mu.Lock()
	for i := range many {
		g.bans.sources.Fail(packet.AddrFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})), 0)
	}
	g.mu.Unlock()
	if n := len(g.Bans(2 * many)); n != many {
		t.Errorf("%d bans", n)
	}
	if n := len(g.Bans(10)); n != 10 {
		t.Errorf("%d of at most 10", n)
	}
	if n := g.Unban(netip.MustParsePrefix("192.0.0.0/16")); n != many {
		t.Errorf("%d pardoned", n)
	}
}
