package admission

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

func banning(o *Options) { o.Ban = Ban{After: 3, Within: time.Minute, For: 10 * time.Minute} }

// fails is a flow of v whose handshake is done and whose authentication fails.
func (v testPeer) fails(port uint16, service string) {
	v.w.Helper()
	v.w.want(v.syn(port, service), ReasonOpen)
	v.handshakes(port, service)
	v.w.gate.Failed(v.tuple(port, service))
	v.w.gate.Remove(v.tuple(port, service))
	v.w.check()
}

func TestBanAfterFailures(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every(), banning)
		v := w.at(addr)
		for n := range uint16(3) {
			v.fails(n+1, "vpn")
		}
		for _, service := range []string{"web", "vpn"} {
			w.want(v.syn(10, service), ReasonBanned)
		}
		// The neighbour's address is its own in IPv4, and the same /64's in
		// IPv6.
		want := ReasonOpen
		if v.addr.Is6() {
			want = ReasonBanned
		}
		w.want(w.at(v.addr.Next().String()).syn(10, "web"), want)
		if v.addr.Is6() {
			w.want(w.at("2001:db8:0:1::1").syn(10, "web"), ReasonOpen)
		}
		w.pass(10*time.Minute - 1)
		w.sweep()
		w.want(v.syn(10, "web"), ReasonBanned)
		w.pass(1)
		w.want(v.syn(10, "web"), ReasonOpen)
		w.pass(time.Minute)
		w.sweep()
		if n := w.gate.bans.sources.Len(); n != 0 {
			t.Errorf("%d offenders are remembered", n)
		}
	})
}

func TestBanNeedsFailuresWithinTime(t *testing.T) {
	w := newHarness(t, every(), banning)
	v := w.at("192.0.2.1")
	for n := range uint16(20) {
		v.fails(n+1, "web")
		w.pass(31 * time.Second) // never three within a minute
		w.sweep()
	}
	w.want(v.syn(100, "web"), ReasonOpen)
}

func TestBanNeedsCompletedHandshake(t *testing.T) {
	w := newHarness(t, every(), banning)
	v := w.at("192.0.2.1")
	// Everything that another host can forge in its name.
	for n := range 50 {
		for _, c := range refusals(v) {
			w.admit(c.b)
		}
		w.admit(v.junk())
		w.admit(v.spoofed(1).from(v.synKnock(alice, "ssh", 0)))
		w.admit(v.syn(uint16(n+1), "web"))
		w.admit(v.tcp(uint16(n+1), "web", packet.ACK, 1001, 9, "junk"))
		w.pass(time.Second)
		w.decide()
	}
	if n := w.gate.bans.sources.Len(); n != 0 {
		t.Fatalf("%d offenders", n)
	}
	w.want(v.syn(1000, "web"), ReasonOpen)
}

func TestBanExemptsKnocksAndGrants(t *testing.T) {
	everywhere(func(addr string) {
		for name, knock := range map[string]func(v testPeer, service string) []byte{
			"udp":     func(v testPeer, service string) []byte { return v.knock(alice, service) },
			"tcp-syn": func(v testPeer, service string) []byte { return v.synKnock(alice, service, 0) },
			"udp-v2":  func(v testPeer, service string) []byte { return v.v2(alice, service) },
		} {
			w := newHarness(t, every(), banning)
			v := w.at(addr)
			for n := range uint16(3) {
				v.fails(n+1, "web")
			}
			w.want(knock(v, "ssh"), ReasonKnock)
			w.want(v.syn(20, "ssh"), ReasonDeferred)
			w.decide()
			if len(w.delivered) != 1 {
				t.Fatalf("%s: a hidden service is closed to a banned source", name)
			}
			v.enters(20, "ssh", alice)
			// To a service that answers any host but those: the SYN that
			// follows its knock at once, and one that comes later.
			w.want(v.syn(29, "vpn"), ReasonBanned)
			w.want(knock(v, "vpn"), ReasonKnock)
			w.want(v.syn(30, "vpn"), ReasonDeferred)
			w.want(v.syn(29, "web"), ReasonBanned)
			w.decide()
			if len(w.delivered) != 2 || !w.delivered[1].verdict.Open || w.delivered[1].verdict.Reason != ReasonOpen {
				t.Fatalf("%s: %+v", name, w.delivered)
			}
			w.want(v.syn(31, "vpn"), ReasonOpen)
			v.enters(30, "vpn", alice)
			w.want(v.syn(32, "vpn"), ReasonBanned)
			w.gate.Remove(v.tuple(31, "vpn"))
		}
	})
}

func TestBannedSYNIsNotDeferredForJunk(t *testing.T) {
	w := newHarness(t, every(), banning)
	v := w.at("192.0.2.1")
	for n := range uint16(3) {
		v.fails(n+1, "web")
	}
	w.want(v.junk(), ReasonKnock)
	w.want(v.syn(20, "vpn"), ReasonDeferred)
	w.decide()
	if len(w.delivered) != 0 {
		t.Error("let in")
	}
	w.empty()
}

func TestBanKeepsFlows(t *testing.T) {
	w := newHarness(t, every(), banning)
	v := w.at("192.0.2.1")
	w.want(v.syn(20, "web"), ReasonOpen)
	v.enters(20, "web", alice)
	for n := range uint16(3) {
		v.fails(n+1, "web")
	}
	w.want(v.tcp(20, "web", packet.ACK, 1001, 1, "more"), ReasonFlow)
}

func TestBanTableIsBounded(t *testing.T) {
	w := newHarness(t, every(), banning)
	for n := range maxFailing + 100 {
		v := w.at(at(n).Netip().String())
		w.gate.Admit(parsed(v.syn(1, "web")))
		if err := w.gate.HandshakeDone(v.tuple(1, "web")); err != nil {
			t.Fatal(err)
		}
		w.gate.Failed(v.tuple(1, "web"))
		w.gate.Remove(v.tuple(1, "web"))
	}
	if n := w.gate.bans.sources.Len(); n != maxFailing {
		t.Errorf("%d offenders", n)
	}
	w.pass(2 * time.Minute)
	for range maxFailing/sweepBatch + 1 {
		w.gate.bans.sweep()
	}
	for range 3000 { // the batches are random
		w.gate.bans.sweep()
	}
	if n := w.gate.bans.sources.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestSourceLimitIgnoresForgedSYNs(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every(), func(o *Options) { o.Limits.FlowsPerSource = 4 })
		v := w.at(addr)
		for n := range uint16(20) {
			w.want(v.syn(n+1, "web"), ReasonOpen) // by another host, in its name
		}
		v.knocks(alice, "ssh", "")
		w.want(v.syn(100, "ssh"), ReasonGrant)
		v.enters(100, "ssh", alice)
		for n := range uint16(3) {
			w.want(v.syn(200+n, "web"), ReasonOpen)
			v.enters(200+n, "web", alice)
		}
		w.want(v.syn(300, "web"), ReasonSourceLimit)
		// Those that were under way before do not get past it either.
		if err := w.gate.HandshakeDone(v.tuple(1, "web")); !errors.Is(err, ErrLimitExceeded) {
			t.Error(err)
		}
		w.gate.Remove(v.tuple(1, "web"))
		w.gate.RelayDone(v.tuple(200, "web"))
		w.check()
		w.want(v.syn(300, "web"), ReasonOpen)
		v.enters(300, "web", alice)
	})
}

func TestIPv6NetworkSharesLimits(t *testing.T) {
	w := newHarness(t, every(), func(o *Options) { o.Limits.FlowsPerSource = 2 })
	a := netip.MustParseAddr("2001:db8::1")
	for range 2 {
		v := testPeer{w, a}
		w.want(v.syn(1, "web"), ReasonOpen)
		v.enters(1, "web", alice)
		a = a.Next()
	}
	w.want(testPeer{w, a}.syn(1, "web"), ReasonSourceLimit)
	w.want(w.at("2001:db8:0:1::1").syn(1, "web"), ReasonOpen)
}
