package admission

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// statefulRefusals returns the refusals that need earlier packets, each on a
// harness of its own.
func statefulRefusals(f failer) map[string]func() (*harness, []byte) {
	return map[string]func() (*harness, []byte){
		"knock, queue full": func() (*harness, []byte) {
			h := newHarness(f, func(o *Options) { o.Limits.Knocks = 1 })
			h.want(h.peer("192.0.2.9").junk(), ReasonKnock)
			return h, h.peer("192.0.2.1").junk()
		},
		"knock, source's share full": func() (*harness, []byte) {
			h := newHarness(f, func(o *Options) { o.Limits.KnocksPerSource = 1 })
			h.want(h.peer("192.0.2.1").junk(), ReasonKnock)
			return h, h.peer("192.0.2.1").junk()
		},
		"knock, budget spent": func() (*harness, []byte) {
			h := newHarness(f)
			for range testUnknownBurst {
				h.want(h.peer("192.0.2.1").junk(), ReasonKnock)
				h.decide()
			}
			return h, h.peer("192.0.2.1").junk()
		},
		"SYN, source has its share": func() (*harness, []byte) {
			h := newHarness(f, func(o *Options) { o.Limits.FlowsPerSource = 1 })
			peer := h.peer("192.0.2.1")
			h.want(peer.syn(1, "web"), ReasonOpen)
			peer.mustHandshake(1, "web")
			return h, peer.syn(2, "web")
		},
		"SYN, source banned": func() (*harness, []byte) {
			h := newHarness(f, func(o *Options) { o.Ban = Ban{After: 1, Within: time.Minute, For: time.Minute} })
			h.peer("192.0.2.1").failAuth(1, "web")
			return h, h.peer("192.0.2.1").syn(1, "web")
		},
		"ACK, of what was never sent": func() (*harness, []byte) {
			h := newHarness(f)
			peer := h.peer("192.0.2.1")
			peer.establish(1, "db")
			return h, peer.tcp(1, "db", packet.ACK, 1001, 1<<31, "")
		},
		"SYN, deferral full": func() (*harness, []byte) {
			h := newHarness(f, func(o *Options) { o.Limits.DeferredSYNs = 1 })
			h.want(h.peer("192.0.2.1").junk(), ReasonKnock)
			h.want(h.peer("192.0.2.1").syn(1, "db"), ReasonDeferred)
			return h, h.peer("192.0.2.1").syn(2, "db")
		},
		"SYN, flow table full": func() (*harness, []byte) {
			h := newHarness(f, func(o *Options) { o.Limits.Flows = 1 })
			h.want(h.peer("192.0.2.9").syn(1, "web"), ReasonOpen)
			h.peer("192.0.2.9").mustEnter(1, "web", alice)
			return h, h.peer("192.0.2.1").syn(2, "vpn")
		},
		"data, share of the unauthenticated full": func() (*harness, []byte) {
			h := newHarness(f)
			peer := h.peer("192.0.2.1")
			h.want(peer.syn(1, "web"), ReasonOpen)
			peer.mustHandshake(1, "web")
			data := peer.tcp(1, "web", packet.ACK, 2000, 1, strings.Repeat("x", 1000))
			for h.admit(data).Reason == ReasonFlow {
			}
			return h, data
		},
		"SYN, draining": func() (*harness, []byte) {
			h := newHarness(f)
			h.gate.Drain()
			return h, h.peer("192.0.2.1").syn(2, "web")
		},
		"SYN, grant used up": func() (*harness, []byte) {
			h := newHarness(f)
			peer := h.peer("192.0.2.1")
			peer.mustKnock(alice, "db", "")
			h.want(peer.syn(1, "db"), ReasonGrant)
			peer.mustEnter(1, "db", alice)
			return h, peer.syn(2, "db")
		},
	}
}

func TestGateRefusalAllocatesNothing(t *testing.T) {
	count := func(name string, g *Gate, b []byte) {
		p := packet.Packet{}
		if n := testing.AllocsPerRun(200, func() {
			p.Data = b
			p.Parse()
			if v := g.Admit(&p); v.Action != Drop {
				t.Fatalf("%s: %v", name, v.Reason)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	seen := map[Reason]bool{}
	forEachFamily(func(addr string) {
		h := newHarness(t)
		for _, c := range unauthorizedPackets(h.peer(addr)) {
			seen[c.want] = true
			count(addr+" "+c.name, h.gate, c.b)
		}
	})
	for name, f := range statefulRefusals(t) {
		h, b := f()
		seen[h.admit(b).Reason] = true
		count(name, h.gate, b)
	}
	for r := range reasonCount {
		if r.action() == Drop && r != ReasonDeferTimeout && !seen[r] {
			t.Errorf("no packet here is refused for %v", r)
		}
	}
}

// readdress moves an IPv4 packet to source number n without allocating, as a
// flood from new addresses does.
func readdress(b []byte, n uint32) {
	b[12], b[13], b[14], b[15] = 10, byte(n>>16), byte(n>>8), byte(n)
}

func TestJunkKnocksAllocateNothing(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Knocked = func(knock.Event) {} })
	b := h.peer("10.0.0.1").junk()
	n := uint32(0)
	p := packet.Packet{Offload: packet.Offload{ChecksumValid: true}}
	one := func() {
		n++
		readdress(b, n)
		p.Data = b
		packettest.Checksums(b[:20:20])
		p.Parse()
		if v := h.gate.Admit(&p); v.Reason != ReasonKnock {
			t.Fatal(v.Reason)
		}
		h.worker.Step()
	}
	for range 5000 {
		one() // the tables grow to their final size
	}
	if got := testing.AllocsPerRun(5000, one); got != 0 {
		t.Errorf("%v allocations for each", got)
	}
	h.wantEmpty()
}

func TestDeferredSYNAllocatesNothing(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Knocked = func(knock.Event) {} })
	peer := h.peer("192.0.2.1")
	junk, syn := peer.junk(), peer.syn(1, "db")
	p := packet.Packet{}
	one := func() {
		h.Advance(time.Second) // for its budget
		for _, b := range [][]byte{junk, syn} {
			p.Data = b
			p.Parse()
			if got := h.gate.Admit(&p); got.Action != Hold {
				t.Fatal(got)
			}
		}
		h.worker.Step()
	}
	one()
	if got := testing.AllocsPerRun(1000, one); got != 0 {
		t.Errorf("%v allocations for each", got)
	}
	h.wantEmpty()
}

func FuzzAdmit(f *testing.F) {
	seeds := newHarness(f)
	forEachFamily(func(addr string) {
		peer := seeds.peer(addr)
		for _, c := range unauthorizedPackets(peer) {
			f.Add(c.b)
		}
		f.Add(peer.knock(alice, "db"))
		f.Add(peer.syn(40000, "web"))
		f.Add(peer.icmpError(peer.reply(40000, "web", packet.ACK, 1, 2, "")))
	})
	// No knock in the corpus is known to this gate.
	h := newHarness(f, func(o *Options) { o.Policy = testPolicy(testClient("dave")) })
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		h.failer = t
		if n++; n%1000 == 0 {
			h.Advance(halfOpenTime + 1)
			h.sweep()
		}
		v := h.admit(b)
		if v.Action != v.Reason.action() {
			t.Fatalf("%v %v", v.Action, v.Reason)
		}
		h.decide()
		if p := parsed(b); v.Reason == ReasonGrant || v.Reason == ReasonFlow && p.Tuple.DstPort != 443 && p.Tuple.DstPort != 8443 {
			t.Fatalf("admitted: %v", p.Tuple)
		}
		h.events = nil
	})
}

// crowdedPolicy returns a policy with n clients for every service.
func crowdedPolicy(n int) *policy.Policy {
	clients := make([]*protocol.Client, n)
	for i := range clients {
		clients[i] = testClient(fmt.Sprintf("client-%05d", i))
	}
	return testPolicy(clients...)
}

func BenchmarkRefuse(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		policy := crowdedPolicy(n)
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			h := newHarness(b, func(o *Options) { o.Policy = policy })
			run := func(name string, g *Gate, data []byte) {
				b.Run(name, func(b *testing.B) {
					p := packet.Packet{}
					b.ReportAllocs()
					for b.Loop() {
						p.Data = data
						p.Parse()
						g.Admit(&p)
					}
				})
			}
			for _, c := range unauthorizedPackets(h.peer("192.0.2.1")) {
				switch c.name {
				case "SYN", "ACK", "SYN to a port without service", "zeros to the knock port", "echo request", "an error about no flow", "a bad checksum":
					run(c.name, h.gate, c.b)
				}
			}
			full := newHarness(b, func(o *Options) { o.Policy, o.Limits.Knocks = policy, 1 })
			full.admit(full.peer("192.0.2.9").junk())
			run("junk knock, queue full", full.gate, full.peer("192.0.2.1").junk())
		})
	}
}

// BenchmarkJunkKnock measures a junk knock in all: queued, and decided by the
// worker.
func BenchmarkJunkKnock(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			h := newHarness(b, func(o *Options) { o.Policy, o.Knocked = crowdedPolicy(n), func(knock.Event) {} })
			data, p := h.peer("192.0.2.1").junk(), packet.Packet{}
			b.ReportAllocs()
			for b.Loop() {
				h.Advance(time.Second) // for its budget
				p.Data = data
				p.Parse()
				h.gate.Admit(&p)
				h.worker.Step()
			}
		})
	}
}

// BenchmarkRefuseBesideMany measures a refused SYN next to many flows and many
// grants of other sources.
func BenchmarkRefuseBesideMany(b *testing.B) {
	h := newHarness(b)
	other, friend := netip.MustParseAddr("10.0.0.1"), policy.NewClient(alice)
	friend.MaxGrants = 10_000
	for range 10_000 {
		peer := testPeer{h, other}
		h.gate.Admit(parsed(peer.syn(1, "web")))
		h.gate.mu.Lock()
		h.gate.sources.addGrant(h.gate.sources.get(packet.AddrFrom(other)), &grant{key: alice, service: h.gate.services[0], uses: 1, expires: testTTL}, friend, 0)
		h.gate.mu.Unlock()
		other = other.Next()
	}
	data, p := h.peer("192.0.2.1").syn(1, "db"), packet.Packet{}
	b.ReportAllocs()
	for b.Loop() {
		p.Data = data
		p.Parse()
		h.gate.Admit(&p)
	}
}

func BenchmarkPassAndEgress(b *testing.B) {
	h := newHarness(b)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	for name, f := range map[string]func(*packet.Packet){
		"pass":   func(p *packet.Packet) { h.gate.Admit(p) },
		"egress": func(p *packet.Packet) { h.gate.Egress(p, 1400) },
	} {
		data := peer.tcp(40000, "db", packet.ACK, 1001, 5001, string(make([]byte, 1400)))
		if name == "egress" {
			data = peer.reply(40000, "db", packet.ACK, 5001, 1001, string(make([]byte, 1400)))
		}
		p := parsed(data)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f(p)
			}
		})
	}
}
