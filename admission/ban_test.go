package admission

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

func withBans(o *Options) { o.Ban = Ban{After: 3, Within: time.Minute, For: 10 * time.Minute} }

// failAuth completes the handshake of a flow and fails its authentication.
func (peer testPeer) failAuth(port uint16, service string) {
	peer.h.Helper()
	peer.h.want(peer.syn(port, service), ReasonOpen)
	peer.mustHandshake(port, service)
	peer.h.gate.Failed(peer.tuple(port, service))
	peer.h.gate.Remove(peer.tuple(port, service))
	peer.h.check()
}

func TestBanAfterFailures(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods(), withBans)
		peer := h.peer(addr)
		for n := range uint16(3) {
			peer.failAuth(n+1, "vpn")
		}
		for _, service := range []string{"web", "vpn"} {
			h.want(peer.syn(10, service), ReasonBanned)
		}
		// In IPv4 the neighbor has its own account, in IPv6 it shares that of
		// the /64.
		want := ReasonOpen
		if peer.addr.Is6() {
			want = ReasonBanned
		}
		h.want(h.peer(peer.addr.Next().String()).syn(10, "web"), want)
		if peer.addr.Is6() {
			h.want(h.peer("2001:db8:0:1::1").syn(10, "web"), ReasonOpen)
		}
		h.Advance(10*time.Minute - 1)
		h.sweep()
		h.want(peer.syn(10, "web"), ReasonBanned)
		h.Advance(1)
		h.want(peer.syn(10, "web"), ReasonOpen)
		h.Advance(time.Minute)
		h.sweep()
		if n := h.gate.bans.sources.Len(); n != 0 {
			t.Errorf("%d offenders are remembered", n)
		}
	})
}

func TestBanNeedsFailuresWithinTime(t *testing.T) {
	h := newHarness(t, allMethods(), withBans)
	peer := h.peer("192.0.2.1")
	for n := range uint16(20) {
		peer.failAuth(n+1, "web")
		h.Advance(31 * time.Second) // never three within a minute
		h.sweep()
	}
	h.want(peer.syn(100, "web"), ReasonOpen)
}

func TestBanNeedsCompletedHandshake(t *testing.T) {
	h := newHarness(t, allMethods(), withBans)
	peer := h.peer("192.0.2.1")
	// Everything that another host can forge in its name.
	for n := range 50 {
		for _, c := range unauthorizedPackets(peer) {
			h.admit(c.b)
		}
		h.admit(peer.junk())
		h.admit(peer.spoofed(1).readdress(peer.synKnock(alice, "ssh", 0)))
		h.admit(peer.syn(uint16(n+1), "web"))
		h.admit(peer.tcp(uint16(n+1), "web", packet.ACK, 1001, 9, "junk"))
		h.Advance(time.Second)
		h.decide()
	}
	if n := h.gate.bans.sources.Len(); n != 0 {
		t.Fatalf("%d offenders", n)
	}
	h.want(peer.syn(1000, "web"), ReasonOpen)
}

func TestBanExemptsKnocksAndGrants(t *testing.T) {
	forEachFamily(func(addr string) {
		for name, knock := range map[string]func(peer testPeer, service string) []byte{
			"udp":     func(peer testPeer, service string) []byte { return peer.knock(alice, service) },
			"tcp-syn": func(peer testPeer, service string) []byte { return peer.synKnock(alice, service, 0) },
			"udp-v2":  func(peer testPeer, service string) []byte { return peer.v2(alice, service) },
		} {
			h := newHarness(t, allMethods(), withBans)
			peer := h.peer(addr)
			for n := range uint16(3) {
				peer.failAuth(n+1, "web")
			}
			h.want(knock(peer, "ssh"), ReasonKnock)
			h.want(peer.syn(20, "ssh"), ReasonDeferred)
			h.decide()
			if len(h.delivered) != 1 {
				t.Fatalf("%s: a hidden service is closed to a banned source", name)
			}
			peer.mustEnter(20, "ssh", alice)
			// To an open service: a SYN right after its knock, and a later one.
			h.want(peer.syn(29, "vpn"), ReasonBanned)
			h.want(knock(peer, "vpn"), ReasonKnock)
			h.want(peer.syn(30, "vpn"), ReasonDeferred)
			h.want(peer.syn(29, "web"), ReasonBanned)
			h.decide()
			if len(h.delivered) != 2 || !h.delivered[1].verdict.Open || h.delivered[1].verdict.Reason != ReasonOpen {
				t.Fatalf("%s: %+v", name, h.delivered)
			}
			h.want(peer.syn(31, "vpn"), ReasonOpen)
			peer.mustEnter(30, "vpn", alice)
			h.want(peer.syn(32, "vpn"), ReasonBanned)
			h.gate.Remove(peer.tuple(31, "vpn"))
		}
	})
}

func TestBannedSYNIsNotDeferredForJunk(t *testing.T) {
	h := newHarness(t, allMethods(), withBans)
	peer := h.peer("192.0.2.1")
	for n := range uint16(3) {
		peer.failAuth(n+1, "web")
	}
	h.want(peer.junk(), ReasonKnock)
	h.want(peer.syn(20, "vpn"), ReasonDeferred)
	h.decide()
	if len(h.delivered) != 0 {
		t.Error("admitted")
	}
	h.wantEmpty()
}

func TestBanKeepsFlows(t *testing.T) {
	h := newHarness(t, allMethods(), withBans)
	peer := h.peer("192.0.2.1")
	h.want(peer.syn(20, "web"), ReasonOpen)
	peer.mustEnter(20, "web", alice)
	for n := range uint16(3) {
		peer.failAuth(n+1, "web")
	}
	h.want(peer.tcp(20, "web", packet.ACK, 1001, 1, "more"), ReasonFlow)
}

func TestBanTableIsBounded(t *testing.T) {
	h := newHarness(t, allMethods(), withBans)
	for n := range maxFailing + 100 {
		peer := h.peer(testAddr(n).Netip().String())
		h.gate.Admit(parsed(peer.syn(1, "web")))
		if err := h.gate.HandshakeDone(peer.tuple(1, "web")); err != nil {
			t.Fatal(err)
		}
		h.gate.Failed(peer.tuple(1, "web"))
		h.gate.Remove(peer.tuple(1, "web"))
	}
	if n := h.gate.bans.sources.Len(); n != maxFailing {
		t.Errorf("%d offenders", n)
	}
	h.Advance(2 * time.Minute)
	for range maxFailing/sweepBatch + 1 {
		h.gate.bans.sweep()
	}
	for range 3000 { // the batches are random
		h.gate.bans.sweep()
	}
	if n := h.gate.bans.sources.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestSourceLimitIgnoresForgedSYNs(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods(), func(o *Options) { o.Limits.FlowsPerSource = 4 })
		peer := h.peer(addr)
		for n := range uint16(20) {
			h.want(peer.syn(n+1, "web"), ReasonOpen) // by another host, in its name
		}
		peer.mustKnock(alice, "ssh", "")
		h.want(peer.syn(100, "ssh"), ReasonGrant)
		peer.mustEnter(100, "ssh", alice)
		for n := range uint16(3) {
			h.want(peer.syn(200+n, "web"), ReasonOpen)
			peer.mustEnter(200+n, "web", alice)
		}
		h.want(peer.syn(300, "web"), ReasonSourceLimit)
		// Flows that were under way before do not pass the limit either.
		if err := h.gate.HandshakeDone(peer.tuple(1, "web")); !errors.Is(err, ErrLimitExceeded) {
			t.Error(err)
		}
		h.gate.Remove(peer.tuple(1, "web"))
		h.gate.RelayDone(peer.tuple(200, "web"))
		h.check()
		h.want(peer.syn(300, "web"), ReasonOpen)
		peer.mustEnter(300, "web", alice)
	})
}

func TestIPv6NetworkSharesLimits(t *testing.T) {
	h := newHarness(t, allMethods(), func(o *Options) { o.Limits.FlowsPerSource = 2 })
	a := netip.MustParseAddr("2001:db8::1")
	for range 2 {
		peer := testPeer{h, a}
		h.want(peer.syn(1, "web"), ReasonOpen)
		peer.mustEnter(1, "web", alice)
		a = a.Next()
	}
	h.want(testPeer{h, a}.syn(1, "web"), ReasonSourceLimit)
	h.want(h.peer("2001:db8:0:1::1").syn(1, "web"), ReasonOpen)
}
