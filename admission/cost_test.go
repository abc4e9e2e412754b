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

// afterwards has the refusals that need something to have happened before, each
// on a harness of its own.
func afterwards(f failer) map[string]func() (*harness, []byte) {
	return map[string]func() (*harness, []byte){
		"knock, queue full": func() (*harness, []byte) {
			w := newHarness(f, func(o *Options) { o.Limits.Knocks = 1 })
			w.want(w.at("192.0.2.9").junk(), ReasonKnock)
			return w, w.at("192.0.2.1").junk()
		},
		"knock, source's share full": func() (*harness, []byte) {
			w := newHarness(f, func(o *Options) { o.Limits.KnocksPerSource = 1 })
			w.want(w.at("192.0.2.1").junk(), ReasonKnock)
			return w, w.at("192.0.2.1").junk()
		},
		"knock, budget spent": func() (*harness, []byte) {
			w := newHarness(f)
			for range testUnknownBurst {
				w.want(w.at("192.0.2.1").junk(), ReasonKnock)
				w.decide()
			}
			return w, w.at("192.0.2.1").junk()
		},
		"SYN, source has its share": func() (*harness, []byte) {
			w := newHarness(f, func(o *Options) { o.Limits.FlowsPerSource = 1 })
			v := w.at("192.0.2.1")
			w.want(v.syn(1, "web"), ReasonOpen)
			v.handshakes(1, "web")
			return w, v.syn(2, "web")
		},
		"SYN, source banned": func() (*harness, []byte) {
			w := newHarness(f, func(o *Options) { o.Ban = Ban{After: 1, Within: time.Minute, For: time.Minute} })
			w.at("192.0.2.1").fails(1, "web")
			return w, w.at("192.0.2.1").syn(1, "web")
		},
		"ACK, of what was never sent": func() (*harness, []byte) {
			w := newHarness(f)
			v := w.at("192.0.2.1")
			v.session(1, "db")
			return w, v.tcp(1, "db", packet.ACK, 1001, 1<<31, "")
		},
		"SYN, deferral full": func() (*harness, []byte) {
			w := newHarness(f, func(o *Options) { o.Limits.DeferredSYNs = 1 })
			w.want(w.at("192.0.2.1").junk(), ReasonKnock)
			w.want(w.at("192.0.2.1").syn(1, "db"), ReasonDeferred)
			return w, w.at("192.0.2.1").syn(2, "db")
		},
		"SYN, flow table full": func() (*harness, []byte) {
			w := newHarness(f, func(o *Options) { o.Limits.Flows = 1 })
			w.want(w.at("192.0.2.9").syn(1, "web"), ReasonOpen)
			w.at("192.0.2.9").enters(1, "web", alice)
			return w, w.at("192.0.2.1").syn(2, "vpn")
		},
		"data, share of the unauthenticated full": func() (*harness, []byte) {
			w := newHarness(f)
			v := w.at("192.0.2.1")
			w.want(v.syn(1, "web"), ReasonOpen)
			v.handshakes(1, "web")
			data := v.tcp(1, "web", packet.ACK, 2000, 1, strings.Repeat("x", 1000))
			for w.admit(data).Reason == ReasonFlow {
			}
			return w, data
		},
		"SYN, draining": func() (*harness, []byte) {
			w := newHarness(f)
			w.gate.Drain()
			return w, w.at("192.0.2.1").syn(2, "web")
		},
		"SYN, grant used up": func() (*harness, []byte) {
			w := newHarness(f)
			v := w.at("192.0.2.1")
			v.knocks(alice, "db", "")
			w.want(v.syn(1, "db"), ReasonGrant)
			v.enters(1, "db", alice)
			return w, v.syn(2, "db")
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
	everywhere(func(addr string) {
		w := newHarness(t)
		for _, c := range refusals(w.at(addr)) {
			seen[c.want] = true
			count(addr+" "+c.name, w.gate, c.b)
		}
	})
	for name, f := range afterwards(t) {
		w, b := f()
		seen[w.admit(b).Reason] = true
		count(name, w.gate, b)
	}
	for r := range reasonCount {
		if r.action() == Drop && r != ReasonDeferTimeout && !seen[r] {
			t.Errorf("no packet here is refused for %v", r)
		}
	}
}

// readdress moves a packet built for IPv4 to source number n, as a flood from
// ever new addresses does, without allocating.
func readdress(b []byte, n uint32) {
	b[12], b[13], b[14], b[15] = 10, byte(n>>16), byte(n>>8), byte(n)
}

func TestJunkKnocksAllocateNothing(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Knocked = func(knock.Event) {} })
	b := w.at("10.0.0.1").junk()
	n := uint32(0)
	p := packet.Packet{Offload: packet.Offload{ChecksumValid: true}}
	one := func() {
		n++
		readdress(b, n)
		p.Data = b
		packettest.Checksums(b[:20:20])
		p.Parse()
		if v := w.gate.Admit(&p); v.Reason != ReasonKnock {
			t.Fatal(v.Reason)
		}
		w.worker.Step()
	}
	for range 5000 {
		one() // the tables take their size
	}
	if got := testing.AllocsPerRun(5000, one); got != 0 {
		t.Errorf("%v allocations for each", got)
	}
	w.empty()
}

func TestDeferredSYNAllocatesNothing(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Knocked = func(knock.Event) {} })
	v := w.at("192.0.2.1")
	junk, syn := v.junk(), v.syn(1, "db")
	p := packet.Packet{}
	one := func() {
		w.pass(time.Second) // for its budget
		for _, b := range [][]byte{junk, syn} {
			p.Data = b
			p.Parse()
			if got := w.gate.Admit(&p); got.Action != Hold {
				t.Fatal(got)
			}
		}
		w.worker.Step()
	}
	one()
	if got := testing.AllocsPerRun(1000, one); got != 0 {
		t.Errorf("%v allocations for each", got)
	}
	w.empty()
}

func FuzzAdmit(f *testing.F) {
	seeds := newHarness(f)
	everywhere(func(addr string) {
		v := seeds.at(addr)
		for _, c := range refusals(v) {
			f.Add(c.b)
		}
		f.Add(v.knock(alice, "db"))
		f.Add(v.syn(40000, "web"))
		f.Add(v.icmpError(v.reply(40000, "web", packet.ACK, 1, 2, "")))
	})
	// No knock in the corpus is known here.
	w := newHarness(f, func(o *Options) { o.Policy = testPolicy(testClient("dave")) })
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		w.failer = t
		if n++; n%1000 == 0 {
			w.pass(halfOpenTime + 1)
			w.sweep()
		}
		v := w.admit(b)
		if v.Action != v.Reason.action() {
			t.Fatalf("%v %v", v.Action, v.Reason)
		}
		w.decide()
		if p := parsed(b); v.Reason == ReasonGrant || v.Reason == ReasonFlow && p.Tuple.DstPort != 443 && p.Tuple.DstPort != 8443 {
			t.Fatalf("let in: %v", p.Tuple)
		}
		w.events = nil
	})
}

// crowd is a policy with n clients of every service.
func crowd(n int) *policy.Policy {
	clients := make([]*protocol.Client, n)
	for i := range clients {
		clients[i] = testClient(fmt.Sprintf("client-%05d", i))
	}
	return testPolicy(clients...)
}

func BenchmarkRefuse(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		policy := crowd(n)
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			w := newHarness(b, func(o *Options) { o.Policy = policy })
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
			for _, c := range refusals(w.at("192.0.2.1")) {
				switch c.name {
				case "SYN", "ACK", "SYN to a port without service", "zeros to the knock port", "echo request", "an error about no flow", "a bad checksum":
					run(c.name, w.gate, c.b)
				}
			}
			full := newHarness(b, func(o *Options) { o.Policy, o.Limits.Knocks = policy, 1 })
			full.admit(full.at("192.0.2.9").junk())
			run("junk knock, queue full", full.gate, full.at("192.0.2.1").junk())
		})
	}
}

// What a junk knock costs in all: queued, and decided by the worker.
func BenchmarkJunkKnock(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			w := newHarness(b, func(o *Options) { o.Policy, o.Knocked = crowd(n), func(knock.Event) {} })
			data, p := w.at("192.0.2.1").junk(), packet.Packet{}
			b.ReportAllocs()
			for b.Loop() {
				w.pass(time.Second) // for its budget
				p.Data = data
				p.Parse()
				w.gate.Admit(&p)
				w.worker.Step()
			}
		})
	}
}

// A refused SYN beside many flows, and among many grants of other sources.
func BenchmarkRefuseBesideMany(b *testing.B) {
	w := newHarness(b)
	other, friend := netip.MustParseAddr("10.0.0.1"), policy.NewClient(alice)
	friend.MaxGrants = 10_000
	for range 10_000 {
		v := testPeer{w, other}
		w.gate.Admit(parsed(v.syn(1, "web")))
		w.gate.mu.Lock()
		w.gate.sources.addGrant(w.gate.sources.get(packet.AddrFrom(other)), &grant{key: alice, service: w.gate.services[0], uses: 1, expires: testTTL}, friend, 0)
		w.gate.mu.Unlock()
		other = other.Next()
	}
	data, p := w.at("192.0.2.1").syn(1, "db"), packet.Packet{}
	b.ReportAllocs()
	for b.Loop() {
		p.Data = data
		p.Parse()
		w.gate.Admit(&p)
	}
}

func BenchmarkPassAndEgress(b *testing.B) {
	w := newHarness(b)
	v := w.at("192.0.2.1")
	v.session(40000, "db")
	for name, f := range map[string]func(*packet.Packet){
		"pass":   func(p *packet.Packet) { w.gate.Admit(p) },
		"egress": func(p *packet.Packet) { w.gate.Egress(p, 1400) },
	} {
		data := v.tcp(40000, "db", packet.ACK, 1001, 5001, string(make([]byte, 1400)))
		if name == "egress" {
			data = v.reply(40000, "db", packet.ACK, 5001, 1001, string(make([]byte, 1400)))
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
