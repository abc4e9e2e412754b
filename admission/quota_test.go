package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// bare has a packet judged without a look at all tables, for floods.
func (w *harness) bare(b []byte) Verdict {
	return w.gate.Admit(parsed(b))
}

// floodSYNs sends n SYNs to a service, each from an address of its own.
func (w *harness) floodSYNs(n int, service string) {
	w.Helper()
	v := w.at("198.51.100.1")
	for range n {
		w.bare(v.syn(1234, service))
		v.addr = v.addr.Next()
	}
	w.tell()
	w.check()
}

func TestOpenServicesShareOfTable(t *testing.T) {
	const flows = 128
	everywhere(func(addr string) {
		w := newHarness(t, func(o *Options) { o.Limits.Flows = flows })
		v := w.at(addr)
		for range 10 { // as many as the table has, and more
			w.floodSYNs(flows, "web")
			w.floodSYNs(flows, "vpn")
		}
		if b := w.bound("open_service_flows"); b.Used != flows/openShare || b.Limit != flows/openShare {
			t.Errorf("%+v", b)
		}
		for port := range uint16(flows - flows/openShare) {
			v.knocks(alice, "db", "")
			w.want(v.syn(40000+port, "db"), ReasonGrant)
			v.enters(40000+port, "db", alice)
		}
		// All that the table has is theirs whom a grant has let in.
		for port := range uint16(flows / openShare) {
			v.knocks(alice, "db", "")
			w.want(v.syn(30000+port, "db"), ReasonGrant)
			v.enters(30000+port, "db", alice)
		}
		w.want(v.syn(29999, "web"), ReasonFlowLimit)
	})
}

func TestOpenServiceShareRecovers(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.Flows = 128 })
	w.floodSYNs(1000, "web")
	w.pass(openHandshakeTime + 1)
	w.sweep()
	if b := w.bound("open_service_flows"); b.Used != 0 {
		t.Errorf("%+v", b)
	}
}

func TestUnauthenticatedConnectionsHaveOwnQuota(t *testing.T) {
	const flows = 128
	w := newHarness(t, func(o *Options) { o.Limits.Flows = flows })
	v, other := w.at("192.0.2.1"), w.at("192.0.2.2")
	w.want(other.syn(1, "web"), ReasonOpen)
	for port := range uint16(flows) {
		w.want(v.syn(1000+port, "web"), ReasonOpen)
		v.handshakes(1000+port, "web")
		w.want(other.syn(1, "web"), ReasonFlow) // a handshake under way makes no room for them
	}
	w.tell()
	if b := w.bound("open_service_connections"); b.Used != flows/completeShare || b.Limit != flows/completeShare {
		t.Errorf("%+v", b)
	}
	if len(w.evicted) != flows-flows/completeShare {
		t.Errorf("%d evicted", len(w.evicted))
	}
	other.enters(1, "web", alice)
}

func TestNeighborDoesNotUseClientQuota(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, func(o *Options) { o.Limits.FlowsPerSource = 4 })
		v := w.at(addr) // both are behind it
		for port := range uint16(4) {
			w.want(v.syn(1000+port, "web"), ReasonOpen)
			v.handshakes(1000+port, "web")
		}
		w.want(v.syn(1100, "web"), ReasonSourceLimit)
		for port := range uint16(4) {
			v.knocks(alice, "ssh", "")
			w.want(v.syn(40000+port, "ssh"), ReasonGrant)
			v.enters(40000+port, "ssh", alice)
		}
		if err := v.authenticates(1000, "web", alice, ""); err == nil {
			t.Error("more flows of a source than it may have")
		}
	})
}

func TestEvictionIsRandom(t *testing.T) {
	const slots = 64
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = slots })
	w.floodSYNs(2*slots, "web")
	first, second := 0, 0
	v := w.at("198.51.100.1")
	for n := range 2 * slots {
		if w.flow(v.tuple(1234, "web")) != nil {
			if n < slots {
				first++
			} else {
				second++
			}
		}
		v.addr = v.addr.Next()
	}
	// Of the first 64, a third survives. That none does, or all, has a chance of
	// 2^-40.
	if first == 0 || second == 0 || first+second != slots {
		t.Errorf("%d of the first and %d of the second are left", first, second)
	}
}

func TestForgedSYNsKeepEstablishedFlows(t *testing.T) {
	for _, service := range []string{"ssh", "vpn"} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		if service == "ssh" {
			v.knocks(alice, service, "")
		}
		w.bare(v.syn(40000, service))
		v.handshakes(40000, service)
		for port := range uint16(4 * HandshakesPerGrant) {
			w.bare(v.syn(1000+port, service))
			w.tell()
		}
		w.check()
		if service == "vpn" {
			v.knocks(alice, service, "")
		}
		if err := v.authenticates(40000, service, alice, ""); err != nil {
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
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	for port := range uint16(2 * HandshakesPerGrant) {
		w.bare(v.syn(1000+port, "ssh"))
		w.tell()
	}
	for n := range uint16(rounds) {
		w.bare(v.syn(40000+n, "ssh"))
		for port := range uint16(forged) {
			w.bare(v.syn(2000+n*forged+port, "ssh"))
			w.tell()
		}
		if w.flow(v.tuple(40000+n, "ssh")) != nil {
			completed++
		}
	}
	w.check()
	// The chance is (1 - 1/256)^120 = 62 %.
	if completed < rounds*2/5 {
		t.Errorf("%d of %d handshakes could be completed", completed, rounds)
	}
}

func TestHandshakeSharesPerClientAndSource(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		grants := maxHandshakes / HandshakesPerGrant * 2
		for range grants {
			v.knocks(alice, "ssh", "")
		}
		for port := range uint16(grants * HandshakesPerGrant) {
			w.bare(v.syn(1000+port, "ssh"))
			w.tell()
		}
		w.check()
		for _, of := range []string{"handshakes_per_source", "handshakes_per_client", "hidden_handshakes"} {
			if b := w.bound(of); b.Used != maxHandshakesPerSource {
				t.Errorf("%+v", b)
			}
		}
		other := w.at(v.addr.Next().Next().String())
		other.knocks(bob, "db", "")
		w.want(other.syn(40000, "db"), ReasonGrant)
		other.enters(40000, "db", bob)
	})
}

func TestGateLimitsHandshakesPerClient(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	for range 2 * maxHandshakesPerClient / HandshakesPerGrant {
		v.addr = v.addr.Next()
		v.knocks(alice, "ssh", "")
		for port := range uint16(HandshakesPerGrant) {
			w.bare(v.syn(1000+port, "ssh"))
			w.tell()
		}
	}
	w.check()
	if b := w.bound("handshakes_per_client"); b.Used != maxHandshakesPerClient {
		t.Errorf("%+v", b)
	}
	w.pass(testTTL + testDeadline + 1)
	w.sweep() // the grants are over, and the handshakes go on
	w.check()
	w.pass(halfOpenTime)
	w.sweep()
	w.empty()
}

func TestGrantHandshakesAwaitEvictions(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	for port := range uint16(HandshakesPerGrant + evictedBacklog) {
		w.bare(v.syn(1000+port, "ssh"))
	}
	w.want(v.syn(40000, "ssh"), ReasonFlowLimit) // its kernel will send it again
	w.tell()
	w.want(v.syn(40000, "ssh"), ReasonGrant)
	if len(w.evicted) != evictedBacklog {
		t.Errorf("%d evicted", len(w.evicted))
	}
}

func TestEvictionsOfHiddenServicesAreNotDelayed(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	v, flood := w.at("192.0.2.1"), w.at("198.51.100.1")
	v.knocks(alice, "ssh", "")
	for range 2 * evictedBacklog {
		w.bare(flood.syn(1234, "web"))
		flood.addr = flood.addr.Next()
	}
	for port := range uint16(HandshakesPerGrant) {
		w.bare(v.syn(1000+port, "ssh"))
	}
	w.want(v.syn(40000, "ssh"), ReasonGrant)
}

func TestEvictionSparesReadmittedFlow(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen = 1 })
	v := w.at("192.0.2.1")
	w.want(v.syn(1, "web"), ReasonOpen)
	w.want(v.syn(2, "web"), ReasonOpen)
	w.want(v.syn(1, "web"), ReasonOpen) // a retransmission
	w.tell()
	if slices.Contains(w.evicted, v.tuple(1, "web")) || len(w.evicted) != 1 {
		t.Errorf("%v", w.evicted)
	}
}

func TestGateLimitsBytesBeforeAuthentication(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"web", "ssh"} {
			w := newHarness(t)
			v := w.at(addr)
			v.knocks(alice, "ssh", "")
			w.want(v.syn(1, service), map[bool]Reason{true: ReasonOpen, false: ReasonGrant}[service == "web"])
			v.handshakes(1, service)
			// What RFC 6928 lets a client send at first.
			const segments, size = 10, 1460
			for n := range uint32(segments) {
				w.want(v.tcp(1, service, packet.ACK, 1001+n*size, 1, strings.Repeat("x", size)), ReasonFlow)
			}
			// Segments of a byte, out of order.
			passed := 0
			for n := range uint32(700) {
				if w.bare(v.tcp(1, service, packet.ACK, 30000+2*n, 1, "x")).Action == Pass {
					passed++
				}
			}
			if limit := maxPendingBytesPerFlow/segmentOverhead - segments; passed == 0 || passed > limit {
				t.Errorf("%d segments pass, limit %d", passed, limit)
			}
			w.want(v.tcp(1, service, packet.ACK, 40000, 1, "x"), ReasonUnauthenticated)
			w.want(v.tcp(1, service, packet.ACK, 1001, 1, ""), ReasonFlow) // nothing to keep
			if b := w.bound("unauthenticated_bytes"); b.Used == 0 || b.Used > maxPendingBytesPerFlow {
				t.Errorf("%+v", b)
			}
			if err := v.authenticates(1, service, alice, ""); err != nil {
				t.Fatal(err)
			}
			w.want(v.tcp(1, service, packet.ACK, 40000, 1, strings.Repeat("x", 1000)), ReasonFlow)
			if b := w.bound("unauthenticated_bytes"); b.Used != 0 {
				t.Errorf("%+v", b)
			}
		}
	})
}

func TestGateLimitsUnauthenticatedBytes(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.FlowsPerSource = 1 << 20 })
	v := w.at("192.0.2.1")
	data := strings.Repeat("x", 1400)
	fill := func(port uint16) {
		w.bare(v.syn(port, "web"))
		w.gate.Egress(parsed(v.reply(port, "web", packet.SYN|packet.ACK, 0, 1001, "")), 0)
		w.bare(v.tcp(port, "web", packet.ACK, 1001, 1, ""))
		if err := w.gate.HandshakeDone(v.tuple(port, "web")); err != nil {
			t.Fatal(err)
		}
		for w.bare(v.tcp(port, "web", packet.ACK, 2000, 1, data)).Action == Pass {
		}
	}
	for port := range uint16(maxPendingBytes/maxPendingBytesPerFlow + 500) {
		fill(1 + port)
		w.tell()
	}
	w.check() // the bound
	if b := w.bound("unauthenticated_bytes"); b.Used < b.Limit*9/10 {
		t.Errorf("%+v", b)
	}
	// An honest client's message gets through: others make room.
	other := w.at("192.0.2.2")
	other.knocks(alice, "ssh", "")
	w.want(other.syn(40000, "ssh"), ReasonGrant)
	other.handshakes(40000, "ssh")
	w.want(other.tcp(40000, "ssh", packet.ACK, 1001, 1, strings.Repeat("x", 1000)), ReasonFlow)
	if err := other.authenticates(40000, "ssh", alice, ""); err != nil {
		t.Error(err)
	}
}

// A flood's evictions cost no more than what they make room for, however many
// flows there are.
func BenchmarkEvictionOfAnOpeningFlow(b *testing.B) {
	for _, slots := range []int{16, 1 << 14} {
		b.Run(fmt.Sprint(slots), func(b *testing.B) {
			w := newHarness(b, func(o *Options) { o.Limits.HalfOpen = slots })
			v := w.at("198.51.100.1")
			packets := make([][]byte, 1<<15)
			for i := range packets {
				packets[i] = v.syn(1234, "web")
				v.addr = v.addr.Next()
			}
			var p packet.Packet
			began := time.Now()
			b.ReportAllocs()
			for i := range b.N {
				p = packet.Packet{Data: packets[i%len(packets)]}
				p.Parse()
				w.gate.Admit(&p)
			}
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "SYN/s")
		})
	}
}
