package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// admitUnchecked judges a packet without a check of all tables, for floods.
func (h *harness) admitUnchecked(b []byte) Verdict {
	return h.gate.Admit(parsed(b))
}

// floodSYNs sends n SYNs to a service, each from its own address.
func (h *harness) floodSYNs(n int, service string) {
	h.Helper()
	peer := h.peer("198.51.100.1")
	for range n {
		h.admitUnchecked(peer.syn(1234, service))
		peer.addr = peer.addr.Next()
	}
	h.notifyEvictions()
	h.check()
}

func TestOpenServicesShareOfTable(t *testing.T) {
	const flows = 128
	forEachFamily(func(addr string) {
		h := newHarness(t, func(o *Options) { o.Limits.Flows = flows })
		peer := h.peer(addr)
		for range 10 { // as many as the table has, and more
			h.floodSYNs(flows, "web")
			h.floodSYNs(flows, "vpn")
		}
		if b := h.usage("open_service_flows"); b.Used != flows/openShare || b.Limit != flows/openShare {
			t.Errorf("%+v", b)
		}
		for port := range uint16(flows - flows/openShare) {
			peer.mustKnock(alice, "db", "")
			h.want(peer.syn(40000+port, "db"), ReasonGrant)
			peer.mustEnter(40000+port, "db", alice)
		}
		// The whole table is available to flows with a grant.
		for port := range uint16(flows / openShare) {
			peer.mustKnock(alice, "db", "")
			h.want(peer.syn(30000+port, "db"), ReasonGrant)
			peer.mustEnter(30000+port, "db", alice)
		}
		h.want(peer.syn(29999, "web"), ReasonFlowLimit)
	})
}

func TestOpenServiceShareRecovers(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.Flows = 128 })
	h.floodSYNs(1000, "web")
	h.Advance(openHandshakeTime + 1)
	h.sweep()
	if b := h.usage("open_service_flows"); b.Used != 0 {
		t.Errorf("%+v", b)
	}
}

func TestUnauthenticatedConnectionsHaveOwnQuota(t *testing.T) {
	const flows = 128
	h := newHarness(t, func(o *Options) { o.Limits.Flows = flows })
	peer, other := h.peer("192.0.2.1"), h.peer("192.0.2.2")
	h.want(other.syn(1, "web"), ReasonOpen)
	for port := range uint16(flows) {
		h.want(peer.syn(1000+port, "web"), ReasonOpen)
		peer.mustHandshake(1000+port, "web")
		h.want(other.syn(1, "web"), ReasonFlow) // a handshake under way makes no room for them
	}
	h.notifyEvictions()
	if b := h.usage("open_service_connections"); b.Used != flows/completeShare || b.Limit != flows/completeShare {
		t.Errorf("%+v", b)
	}
	if len(h.evicted) != flows-flows/completeShare {
		t.Errorf("%d evicted", len(h.evicted))
	}
	other.mustEnter(1, "web", alice)
}

func TestNeighborDoesNotUseClientQuota(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, func(o *Options) { o.Limits.FlowsPerSource = 4 })
		peer := h.peer(addr) // both share this address
		for port := range uint16(4) {
			h.want(peer.syn(1000+port, "web"), ReasonOpen)
			peer.mustHandshake(1000+port, "web")
		}
		h.want(peer.syn(1100, "web"), ReasonSourceLimit)
		for port := range uint16(4) {
			peer.mustKnock(alice, "ssh", "")
			h.want(peer.syn(40000+port, "ssh"), ReasonGrant)
			peer.mustEnter(40000+port, "ssh", alice)
		}
		if err := peer.authenticate(1000, "web", alice, ""); err == nil {
			t.Error("more flows of a source than it may have")
		}
	})
}

func TestEvictionIsRandom(t *testing.T) {
	const slots = 64
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = slots })
	h.floodSYNs(2*slots, "web")
	first, second := 0, 0
	peer := h.peer("198.51.100.1")
	for n := range 2 * slots {
		if h.flow(peer.tuple(1234, "web")) != nil {
			if n < slots {
				first++
			} else {
				second++
			}
		}
		peer.addr = peer.addr.Next()
	}
	// A third of the first 64 survives. The chance that none or all survive is
	// 2^-40.
	if first == 0 || second == 0 || first+second != slots {
		t.Errorf("%d of the first and %d of the second are left", first, second)
	}
}

func TestForgedSYNsKeepEstablishedFlows(t *testing.T) {
	for _, service := range []string{"ssh", "vpn"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		if service == "ssh" {
			peer.mustKnock(alice, service, "")
		}
		h.admitUnchecked(peer.syn(40000, service))
		peer.mustHandshake(40000, service)
		for port := range uint16(4 * HandshakesPerGrant) {
			h.admitUnchecked(peer.syn(1000+port, service))
			h.notifyEvictions()
		}
		h.check()
		if service == "vpn" {
			peer.mustKnock(alice, service, "")
		}
		if err := peer.authenticate(40000, service, alice, ""); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	}
}

func TestHandshakeSurvivesForgedSYNs(t *testing.T) {
	const (
		rounds = 200
		forged = 120 // in a round trip of 60 ms, at 2,000 a second
	)
	completed := 0
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	for port := range uint16(2 * HandshakesPerGrant) {
		h.admitUnchecked(peer.syn(1000+port, "ssh"))
		h.notifyEvictions()
	}
	for n := range uint16(rounds) {
		h.admitUnchecked(peer.syn(40000+n, "ssh"))
		for port := range uint16(forged) {
			h.admitUnchecked(peer.syn(2000+n*forged+port, "ssh"))
			h.notifyEvictions()
		}
		if h.flow(peer.tuple(40000+n, "ssh")) != nil {
			completed++
		}
	}
	h.check()
	// The chance is (1 - 1/256)^120 = 62 %.
	if completed < rounds*2/5 {
		t.Errorf("%d of %d handshakes could be completed", completed, rounds)
	}
}

func TestHandshakeSharesPerClientAndSource(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		grants := maxHandshakes / HandshakesPerGrant * 2
		for range grants {
			peer.mustKnock(alice, "ssh", "")
		}
		for port := range uint16(grants * HandshakesPerGrant) {
			h.admitUnchecked(peer.syn(1000+port, "ssh"))
			h.notifyEvictions()
		}
		h.check()
		for _, of := range []string{"handshakes_per_source", "handshakes_per_client", "hidden_handshakes"} {
			if b := h.usage(of); b.Used != maxHandshakesPerSource {
				t.Errorf("%+v", b)
			}
		}
		other := h.peer(peer.addr.Next().Next().String())
		other.mustKnock(bob, "db", "")
		h.want(other.syn(40000, "db"), ReasonGrant)
		other.mustEnter(40000, "db", bob)
	})
}

func TestGateLimitsHandshakesPerClient(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	for range 2 * maxHandshakesPerClient / HandshakesPerGrant {
		peer.addr = peer.addr.Next()
		peer.mustKnock(alice, "ssh", "")
		for port := range uint16(HandshakesPerGrant) {
			h.admitUnchecked(peer.syn(1000+port, "ssh"))
			h.notifyEvictions()
		}
	}
	h.check()
	if b := h.usage("handshakes_per_client"); b.Used != maxHandshakesPerClient {
		t.Errorf("%+v", b)
	}
	h.Advance(testTTL + testDeadline + 1)
	h.sweep() // the grants are over, and the handshakes go on
	h.check()
	h.Advance(halfOpenTime)
	h.sweep()
	h.wantEmpty()
}

func TestGrantHandshakesAwaitEvictions(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	for port := range uint16(HandshakesPerGrant + evictedBacklog) {
		h.admitUnchecked(peer.syn(1000+port, "ssh"))
	}
	h.want(peer.syn(40000, "ssh"), ReasonFlowLimit) // its kernel will send it again
	h.notifyEvictions()
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
	if len(h.evicted) != evictedBacklog {
		t.Errorf("%d evicted", len(h.evicted))
	}
}

func TestEvictionsOfHiddenServicesAreNotDelayed(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	peer, flood := h.peer("192.0.2.1"), h.peer("198.51.100.1")
	peer.mustKnock(alice, "ssh", "")
	for range 2 * evictedBacklog {
		h.admitUnchecked(flood.syn(1234, "web"))
		flood.addr = flood.addr.Next()
	}
	for port := range uint16(HandshakesPerGrant) {
		h.admitUnchecked(peer.syn(1000+port, "ssh"))
	}
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
}

func TestEvictionSparesReadmittedFlow(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	peer := h.peer("192.0.2.1")
	h.want(peer.syn(1, "web"), ReasonOpen)
	h.want(peer.syn(2, "web"), ReasonOpen)
	h.want(peer.syn(1, "web"), ReasonOpen) // a retransmission
	h.notifyEvictions()
	if slices.Contains(h.evicted, peer.tuple(1, "web")) || len(h.evicted) != 1 {
		t.Errorf("%v", h.evicted)
	}
}

func TestGateLimitsBytesBeforeAuthentication(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"web", "ssh"} {
			h := newHarness(t)
			peer := h.peer(addr)
			peer.mustKnock(alice, "ssh", "")
			h.want(peer.syn(1, service), map[bool]Reason{true: ReasonOpen, false: ReasonGrant}[service == "web"])
			peer.mustHandshake(1, service)
			// RFC 6928 allows a client this initial window.
			const segments, size = 10, 1460
			for n := range uint32(segments) {
				h.want(peer.tcp(1, service, packet.ACK, 1001+n*size, 1, strings.Repeat("x", size)), ReasonFlow)
			}
			// Segments of one byte, out of order.
			passed := 0
			for n := range uint32(700) {
				if h.admitUnchecked(peer.tcp(1, service, packet.ACK, 30000+2*n, 1, "x")).Action == Pass {
					passed++
				}
			}
			if limit := maxPendingBytesPerFlow/segmentOverhead - segments; passed == 0 || passed > limit {
				t.Errorf("%d segments pass, limit %d", passed, limit)
			}
			h.want(peer.tcp(1, service, packet.ACK, 40000, 1, "x"), ReasonUnauthenticated)
			h.want(peer.tcp(1, service, packet.ACK, 1001, 1, ""), ReasonFlow) // nothing to keep
			if b := h.usage("unauthenticated_bytes"); b.Used == 0 || b.Used > maxPendingBytesPerFlow {
				t.Errorf("%+v", b)
			}
			if err := peer.authenticate(1, service, alice, ""); err != nil {
				t.Fatal(err)
			}
			h.want(peer.tcp(1, service, packet.ACK, 40000, 1, strings.Repeat("x", 1000)), ReasonFlow)
			if b := h.usage("unauthenticated_bytes"); b.Used != 0 {
				t.Errorf("%+v", b)
			}
		}
	})
}

func TestGateLimitsUnauthenticatedBytes(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.FlowsPerSource = 1 << 20 })
	peer := h.peer("192.0.2.1")
	data := strings.Repeat("x", 1400)
	fill := func(port uint16) {
		h.admitUnchecked(peer.syn(port, "web"))
		h.gate.Egress(parsed(peer.reply(port, "web", packet.SYN|packet.ACK, 0, 1001, "")), 0)
		h.admitUnchecked(peer.tcp(port, "web", packet.ACK, 1001, 1, ""))
		if err := h.gate.HandshakeDone(peer.tuple(port, "web")); err != nil {
			t.Fatal(err)
		}
		for h.admitUnchecked(peer.tcp(port, "web", packet.ACK, 2000, 1, data)).Action == Pass {
		}
	}
	for port := range uint16(maxPendingBytes/maxPendingBytesPerFlow + 500) {
		fill(1 + port)
		h.notifyEvictions()
	}
	h.check() // the bound
	if b := h.usage("unauthenticated_bytes"); b.Used < b.Limit*9/10 {
		t.Errorf("%+v", b)
	}
	// An honest client's message is admitted: others make room.
	other := h.peer("192.0.2.2")
	other.mustKnock(alice, "ssh", "")
	h.want(other.syn(40000, "ssh"), ReasonGrant)
	other.mustHandshake(40000, "ssh")
	h.want(other.tcp(40000, "ssh", packet.ACK, 1001, 1, strings.Repeat("x", 1000)), ReasonFlow)
	if err := other.authenticate(40000, "ssh", alice, ""); err != nil {
		t.Error(err)
	}
}

// The evictions of a flood cost no more than the flows that they make room for,
// however many flows there are.
func BenchmarkEvictionOfAnOpeningFlow(b *testing.B) {
	for _, slots := range []int{16, 1 << 14} {
		b.Run(fmt.Sprint(slots), func(b *testing.B) {
			h := newHarness(b, func(o *Options) { o.Limits.HalfOpen = slots })
			peer := h.peer("198.51.100.1")
			packets := make([][]byte, 1<<15)
			for i := range packets {
				packets[i] = peer.syn(1234, "web")
				peer.addr = peer.addr.Next()
			}
			var p packet.Packet
			began := time.Now()
			b.ReportAllocs()
			for i := range b.N {
				p = packet.Packet{Data: packets[i%len(packets)]}
				p.Parse()
				h.gate.Admit(&p)
			}
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "SYN/s")
		})
	}
}
