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
	everywhere(func(addr string) {
		here := netip.MustParseAddr(addr)
		elsewhere := here.Next()
		for _, c := range []struct {
			name   string
			target func(v testPeer) Target
			ends   func(client, service string, from netip.Addr) bool
		}{
			{"everything", func(testPeer) Target { return Target{} },
				func(string, string, netip.Addr) bool { return true }},
			{"a client", func(testPeer) Target { return Target{Client: "alice"} },
				func(client, _ string, _ netip.Addr) bool { return client == "alice" }},
			{"a service", func(v testPeer) Target { return Target{Service: v.w.gate.Policy().Service(v.server("db")).Name} },
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
			w := newHarness(t)
			testPeers := []testPeer{w.at(addr), w.at(elsewhere.String())}
			ports := map[*protocol.Client]uint16{alice: 1000, bob: 2000}
			for _, v := range testPeers {
				for client, port := range ports {
					for _, s := range everyService {
						v.begins(client, s, port)
					}
				}
			}
			w.evicted = nil
			r := w.gate.Revoke(c.target(testPeers[0]))
			w.check()
			want := 0
			for _, v := range testPeers {
				for client, port := range ports {
					for _, s := range everyService {
						over := c.ends(client.ID(), s, v.addr)
						if over {
							want++
						}
						if v.lives(port, s) == over || slices.Contains(w.evicted, v.tuple(port, s)) != over {
							t.Errorf("%s: %s's flow to %s from %v: over should be %v", c.name, client.ID(), s, v.addr, over)
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
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		v.knocks(alice, "db", "")
		v.knocks(bob, "many", "")
		if r := w.gate.Revoke(Target{Client: "alice"}); r.Grants != 1 || r.Flows != 0 {
			t.Errorf("%+v", r)
		}
		w.check()
		w.want(v.syn(1, "db"), ReasonNoGrant)
		w.want(v.syn(1, "many"), ReasonGrant)
		v.knocks(alice, "db", "")
		w.want(v.syn(2, "db"), ReasonGrant)
	})
}

func TestRevokeOneFlow(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "many", "")
	for _, port := range []uint16{1, 2} {
		w.want(v.syn(port, "many"), ReasonGrant)
		v.enters(port, "many", alice)
	}
	r := w.gate.Revoke(Target{Flow: netip.AddrPortFrom(v.addr, 1)})
	if r.Flows != 1 || r.Grants != 0 || v.lives(1, "many") || !v.lives(2, "many") {
		t.Errorf("%+v", r)
	}
	w.want(v.syn(3, "many"), ReasonGrant) // the third use
}

func TestGrantsListsUnexpired(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		v.knocks(alice, "many", "")
		w.want(v.syn(1, "many"), ReasonGrant)
		w.pass(time.Second)
		got := w.gate.Grants(10)
		want := Grant{
			Client: "alice", Service: w.gate.Policy().Service(v.server("many")).Name, Source: v.addr,
			Left: testTTL - time.Second, Uses: 3, Handshakes: 1,
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if n := len(w.gate.Grants(0)); n != 0 {
			t.Errorf("%d when none was asked for", n)
		}
		w.pass(testTTL + testDeadline + time.Second)
		if got := w.gate.Grants(10); len(got) != 0 && got[0].Handshakes == 0 {
			t.Errorf("%+v is over", got)
		}
	})
}

func TestBansListAndUnban(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, bans)
		v := w.at(addr)
		for range 3 {
			v.fails(1, "web")
		}
		list := w.gate.Bans(10)
		if len(list) != 1 || !list[0].Source.Contains(v.addr) || list[0].Left <= 0 {
			t.Fatalf("%+v", list)
		}
		w.want(v.syn(1, "web"), ReasonBanned)
		if n := w.gate.Unban(netip.MustParsePrefix("198.51.100.0/24")); n != 0 {
			t.Errorf("%d others were pardoned", n)
		}
		if n := w.gate.Unban(netip.PrefixFrom(v.addr, v.addr.BitLen())); n != 1 || len(w.gate.Bans(10)) != 0 {
			t.Errorf("%d were pardoned", n)
		}
		w.want(v.syn(1, "web"), ReasonOpen)
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
