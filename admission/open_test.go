package admission

import (
	"slices"
	"testing"

	"github.com/knockgw/knockgw/packet"
)

func TestOpenServiceAnswersAnyHost(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"web", "vpn"} {
			w := newHarness(t)
			v := w.at(addr)
			if got := w.want(v.syn(40000, service), ReasonOpen); !got.Open || got.TupleReused {
				t.Errorf("%s: %+v", service, got)
			}
			if !w.egress(v.reply(40000, service, packet.SYN|packet.ACK, 0, 1001, "")) {
				t.Errorf("%s: no answer", service)
			}
			if got := w.want(v.tcp(40000, service, packet.ACK, 1001, 1, ""), ReasonFlow); !got.Open {
				t.Errorf("%s: %+v", service, got)
			}
		}
	})
}

func TestSYNFloodEvictsOwnService(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 4 })
	v, flood := w.at("192.0.2.1"), w.at("198.51.100.1")
	w.want(v.syn(40000, "web"), ReasonOpen)
	v.enters(40000, "web", alice)
	w.want(v.syn(40001, "web"), ReasonOpen)
	v.handshakes(40001, "web") // not authenticated yet
	w.want(v.syn(40002, "vpn"), ReasonOpen)
	const floods = 40
	for range floods {
		w.want(flood.syn(1234, "web"), ReasonOpen)
		flood.addr = flood.addr.Next()
	}
	w.tell()
	const left = 3 // of the flood
	if len(w.evicted) != floods-left {
		t.Fatalf("evicted: %v", w.evicted)
	}
	w.want(v.tcp(40000, "web", packet.ACK, 1001, 1, "data"), ReasonFlow) // let in: never evicted
	w.want(v.tcp(40001, "web", packet.ACK, 1001, 1, ""), ReasonFlow)     // its handshake is complete
	w.want(v.syn(40002, "vpn"), ReasonFlow)                              // another service's
	if n := w.gate.Stats().HalfOpen; n != 5 {
		t.Errorf("%d half-open flows", n)
	}
}

func TestSYNCookieOnlyDuringFlood(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 4 })
	v, flood := w.at("192.0.2.1"), w.at("198.51.100.1")
	ack := v.tcp(40000, "web", packet.ACK, 1001, 555, "")
	w.want(v.syn(40000, "web"), ReasonOpen)
	for evicted := false; !evicted; { // which goes is chosen at random
		w.want(flood.syn(1234, "web"), ReasonOpen)
		flood.addr = flood.addr.Next()
		w.tell()
		evicted = slices.Contains(w.evicted, v.tuple(40000, "web"))
	}
	w.want(v.tcp(40000, "vpn", packet.ACK, 1001, 555, ""), ReasonNoFlow) // no flood there
	w.want(v.tcp(40000, "db", packet.ACK, 1001, 555, ""), ReasonNoFlow)
	for _, flags := range []uint8{0, packet.FIN, packet.RST, packet.RST | packet.ACK, packet.SYN | packet.ACK} {
		w.want(v.tcp(40000, "web", flags, 1001, 555, ""), ReasonNoFlow)
	}
	if got := w.want(ack, ReasonCookie); !got.Open {
		t.Errorf("%+v", got)
	}
	w.want(ack, ReasonFlow)
	v.enters(40000, "web", alice)

	w.pass(CookieWindow)
	w.want(v.tcp(40001, "web", packet.ACK, 1001, 555, ""), ReasonCookie)
	w.pass(1)
	w.want(v.tcp(40002, "web", packet.ACK, 1001, 555, ""), ReasonNoFlow)
}

func TestStrayACKGetsNoReset(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	v := w.at("192.0.2.1")
	w.want(w.at("198.51.100.1").syn(1, "web"), ReasonOpen)
	w.want(w.at("198.51.100.2").syn(1, "web"), ReasonOpen)
	w.want(v.tcp(40000, "web", packet.ACK, 1001, 555, ""), ReasonCookie)
	if w.egress(v.reply(40000, "web", packet.RST, 555, 0, "")) {
		t.Error("the stack's reset gets out")
	}
}

func TestSweepForgetsHalfOpenFlow(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	for port := range uint16(3) {
		w.want(v.syn(40000+port, "web"), ReasonOpen)
	}
	v.handshakes(40001, "web")
	v.enters(40002, "web", alice)
	w.pass(openHandshakeTime)
	w.sweep()
	w.want(v.syn(40000, "web"), ReasonFlow)
	w.pass(1)
	w.sweep()
	w.want(v.tcp(40000, "web", packet.ACK, 1001, 1, ""), ReasonNoFlow)
	w.want(v.tcp(40001, "web", packet.ACK, 1001, 1, ""), ReasonFlow)
	w.pass(halfOpenTime - openHandshakeTime)
	w.sweep()
	w.want(v.tcp(40001, "web", packet.ACK, 1001, 1, ""), ReasonNoFlow)
	w.want(v.tcp(40002, "web", packet.ACK, 1001, 1, ""), ReasonFlow)
	if len(w.evicted) != 2 {
		t.Errorf("evicted: %v", w.evicted)
	}
}

func TestOpenServiceKnock(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.udp(443, make([]byte, 140)), ReasonNotService) // mode auth takes no knocks
	v.knocks(alice, "vpn", "")
	w.want(v.syn(40000, "ssh"), ReasonNoGrant)
	w.want(v.syn(40000, "vpn"), ReasonOpen)
	v.enters(40000, "vpn", alice)
}

func TestEvictionBacklogOverflow(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	flood := w.at("198.51.100.1")
	for range evictedBacklog + 100 {
		if v := w.gate.admit(parsed(flood.syn(1, "web"))); v.Reason != ReasonOpen {
			t.Fatal(v)
		}
		flood.addr = flood.addr.Next()
	}
	w.tell()
	w.check()
	if len(w.evicted) != evictedBacklog {
		t.Errorf("%d told", len(w.evicted))
	}
}

func parsed(b []byte) *packet.Packet {
	p := &packet.Packet{Data: b}
	p.Parse()
	return p
}
