package admission

import (
	"slices"
	"testing"

	"github.com/knockgw/knockgw/packet"
)

func TestOpenServiceAnswersAnyHost(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"web", "vpn"} {
			h := newHarness(t)
			peer := h.peer(addr)
			if got := h.want(peer.syn(40000, service), ReasonOpen); !got.Open || got.TupleReused {
				t.Errorf("%s: %+v", service, got)
			}
			if !h.egress(peer.reply(40000, service, packet.SYN|packet.ACK, 0, 1001, "")) {
				t.Errorf("%s: no answer", service)
			}
			if got := h.want(peer.tcp(40000, service, packet.ACK, 1001, 1, ""), ReasonFlow); !got.Open {
				t.Errorf("%s: %+v", service, got)
			}
		}
	})
}

func TestSYNFloodEvictsOwnService(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 4 })
	peer, flood := h.peer("192.0.2.1"), h.peer("198.51.100.1")
	h.want(peer.syn(40000, "web"), ReasonOpen)
	peer.mustEnter(40000, "web", alice)
	h.want(peer.syn(40001, "web"), ReasonOpen)
	peer.mustHandshake(40001, "web") // not authenticated yet
	h.want(peer.syn(40002, "vpn"), ReasonOpen)
	const floods = 40
	for range floods {
		h.want(flood.syn(1234, "web"), ReasonOpen)
		flood.addr = flood.addr.Next()
	}
	h.notifyEvictions()
	const left = 3 // of the flood
	if len(h.evicted) != floods-left {
		t.Fatalf("evicted: %v", h.evicted)
	}
	h.want(peer.tcp(40000, "web", packet.ACK, 1001, 1, "data"), ReasonFlow) // authenticated: never evicted
	h.want(peer.tcp(40001, "web", packet.ACK, 1001, 1, ""), ReasonFlow)     // its handshake is complete
	h.want(peer.syn(40002, "vpn"), ReasonFlow)                              // another service's
	if n := h.gate.Stats().HalfOpen; n != 5 {
		t.Errorf("%d half-open flows", n)
	}
}

func TestSYNCookieOnlyDuringFlood(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 4 })
	peer, flood := h.peer("192.0.2.1"), h.peer("198.51.100.1")
	ack := peer.tcp(40000, "web", packet.ACK, 1001, 555, "")
	h.want(peer.syn(40000, "web"), ReasonOpen)
	for evicted := false; !evicted; { // the evicted flow is chosen at random
		h.want(flood.syn(1234, "web"), ReasonOpen)
		flood.addr = flood.addr.Next()
		h.notifyEvictions()
		evicted = slices.Contains(h.evicted, peer.tuple(40000, "web"))
	}
	h.want(peer.tcp(40000, "vpn", packet.ACK, 1001, 555, ""), ReasonNoFlow) // no flood there
	h.want(peer.tcp(40000, "db", packet.ACK, 1001, 555, ""), ReasonNoFlow)
	for _, flags := range []uint8{0, packet.FIN, packet.RST, packet.RST | packet.ACK, packet.SYN | packet.ACK} {
		h.want(peer.tcp(40000, "web", flags, 1001, 555, ""), ReasonNoFlow)
	}
	if got := h.want(ack, ReasonCookie); !got.Open {
		t.Errorf("%+v", got)
	}
	h.want(ack, ReasonFlow)
	peer.mustEnter(40000, "web", alice)

	h.Advance(CookieWindow)
	h.want(peer.tcp(40001, "web", packet.ACK, 1001, 555, ""), ReasonCookie)
	h.Advance(1)
	h.want(peer.tcp(40002, "web", packet.ACK, 1001, 555, ""), ReasonNoFlow)
}

func TestStrayACKGetsNoReset(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	peer := h.peer("192.0.2.1")
	h.want(h.peer("198.51.100.1").syn(1, "web"), ReasonOpen)
	h.want(h.peer("198.51.100.2").syn(1, "web"), ReasonOpen)
	h.want(peer.tcp(40000, "web", packet.ACK, 1001, 555, ""), ReasonCookie)
	if h.egress(peer.reply(40000, "web", packet.RST, 555, 0, "")) {
		t.Error("the stack's reset gets out")
	}
}

func TestSweepForgetsHalfOpenFlow(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	for port := range uint16(3) {
		h.want(peer.syn(40000+port, "web"), ReasonOpen)
	}
	peer.mustHandshake(40001, "web")
	peer.mustEnter(40002, "web", alice)
	h.Advance(openHandshakeTime)
	h.sweep()
	h.want(peer.syn(40000, "web"), ReasonFlow)
	h.Advance(1)
	h.sweep()
	h.want(peer.tcp(40000, "web", packet.ACK, 1001, 1, ""), ReasonNoFlow)
	h.want(peer.tcp(40001, "web", packet.ACK, 1001, 1, ""), ReasonFlow)
	h.Advance(halfOpenTime - openHandshakeTime)
	h.sweep()
	h.want(peer.tcp(40001, "web", packet.ACK, 1001, 1, ""), ReasonNoFlow)
	h.want(peer.tcp(40002, "web", packet.ACK, 1001, 1, ""), ReasonFlow)
	if len(h.evicted) != 2 {
		t.Errorf("evicted: %v", h.evicted)
	}
}

func TestOpenServiceKnock(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.udp(443, make([]byte, 140)), ReasonNotService) // mode auth takes no knocks
	peer.mustKnock(alice, "vpn", "")
	h.want(peer.syn(40000, "ssh"), ReasonNoGrant)
	h.want(peer.syn(40000, "vpn"), ReasonOpen)
	peer.mustEnter(40000, "vpn", alice)
}

func TestEvictionBacklogOverflow(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	flood := h.peer("198.51.100.1")
	for range evictedBacklog + 100 {
		if v := h.gate.Admit(parsed(flood.syn(1, "web"))); v.Reason != ReasonOpen {
			t.Fatal(v)
		}
		flood.addr = flood.addr.Next()
	}
	h.notifyEvictions()
	h.check()
	if len(h.evicted) != evictedBacklog {
		t.Errorf("%d told", len(h.evicted))
	}
}

func parsed(b []byte) *packet.Packet {
	p := &packet.Packet{Data: b}
	p.Parse()
	return p
}
