package admission

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The costs of docs/performance.md: go test -run '^$' -bench Knock ./admission

var clientCounts = []int{1, 100, 1_000, 10_000}

// benchFamilies are the methods that the only service of a benchmark accepts.
var benchFamilies = []struct {
	method   string
	families policy.MethodSet
	junk     func(peer testPeer, r *rand.ChaCha8) []byte
}{
	{"udp", policy.MethodUDP, junkV1},
	{"udp-seq", policy.MethodUDPSeq, junkV1},
	{"udp-v2", policy.MethodUDPv2, junkV2},
	{"tcp-syn", policy.MethodSYN, junkSYN},
	{"tcp-syn-seq", policy.MethodSYNSeq, junkSYN},
}

// junkV1 returns a datagram that differs from a knock v1 in everything but its
// hint.
func junkV1(peer testPeer, r *rand.ChaCha8) []byte {
	b := make([]byte, 150)
	_, _ = r.Read(b)
	b[24], b[25], b[26], b[27] = 0, byte(len(b)-protocol.KnockHeader), 2, 0
	return peer.udp(testKnockPort, b)
}

func junkV2(peer testPeer, r *rand.ChaCha8) []byte {
	b := make([]byte, protocol.KnockV2Size)
	_, _ = r.Read(b)
	return peer.udp(testKnockPort, b)
}

func junkSYN(peer testPeer, r *rand.ChaCha8) []byte {
	n := r.Uint64()
	f := protocol.SYNFields{Seq: uint32(n), TSVal: uint32(n >> 32), Window: uint16(r.Uint64())}
	return peer.synAs(f, peer.server("db"))
}

// benchHarness returns a harness with one service for n clients.
func benchHarness(b *testing.B, n int, families policy.MethodSet) *harness {
	return newHarness(b, allMethods(withClients(manyClients(n)...), withMethods(families), func(p *policy.Options) {
		p.Services = only(p.Services, "db4")
	}), func(o *Options) { o.Limits, o.Knocked = Limits{Grants: 1 << 20}, func(knock.Event) {} })
}

// differentJunk returns enough packets that the processor's cache does not hold
// the previous one.
func differentJunk(h *harness, junk func(testPeer, *rand.ChaCha8) []byte) [][]byte {
	all := make([][]byte, 8192)
	for i := range all {
		all[i] = junk(h.peer("192.0.2.1").spoofed(i*257), h.random)
	}
	return all
}

// BenchmarkKnockJunk measures a junk packet: parsed and judged and, for the
// methods that try each client, decided by the worker.
func BenchmarkKnockJunk(b *testing.B) {
	for _, m := range benchFamilies {
		for _, n := range clientCounts {
			name := fmt.Sprintf("%s/clients=%d", m.method, n)
			b.Run(name, func(b *testing.B) {
				h := benchHarness(b, n, m.families)
				all := differentJunk(h, m.junk)
				var p packet.Packet
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					p = packet.Packet{Data: all[i&(len(all)-1)]}
					p.Parse()
					h.gate.Admit(&p)
					i++
				}
			})
			if m.families&policy.MethodsV1 == 0 {
				continue
			}
			b.Run(name+"/scan", func(b *testing.B) {
				h := benchHarness(b, n, m.families)
				all := differentJunk(h, m.junk)
				var p packet.Packet
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					h.Advance(time.Second) // for the budgets
					p = packet.Packet{Data: all[i&(len(all)-1)]}
					p.Parse()
					h.gate.Admit(&p)
					h.worker.Step()
					i++
				}
			})
		}
	}
}

// BenchmarkKnockJunkAtEveryMethod: the service accepts every method, so the
// table has its maximum size.
func BenchmarkKnockJunkAtEveryMethod(b *testing.B) {
	for name, junk := range map[string]func(testPeer, *rand.ChaCha8) []byte{"SYN": junkSYN, "datagram": junkV2} {
		for _, n := range clientCounts {
			b.Run(fmt.Sprintf("%s/clients=%d", name, n), func(b *testing.B) {
				h := benchHarness(b, n, allFamilies)
				all := differentJunk(h, junk)
				var p packet.Packet
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					p = packet.Packet{Data: all[i&(len(all)-1)]}
					p.Parse()
					h.gate.Admit(&p)
					i++
				}
			})
		}
	}
}

// BenchmarkKnockValid measures a valid knock, from its first packet to its
// grant. It leaves out the time to make the knock and the next slot's table.
func BenchmarkKnockValid(b *testing.B) {
	for _, m := range benchFamilies {
		for _, n := range clientCounts {
			b.Run(fmt.Sprintf("%s/clients=%d", m.method, n), func(b *testing.B) {
				h := benchHarness(b, n, m.families)
				clients := h.gate.policy.Load().Services()[0].Clients
				peer := h.peer("192.0.2.1")
				var spent time.Duration
				knocks := 0
				for b.Loop() {
					var all [][]byte
					for range min(n, 64) {
						c := clients[knocks*7919%n] // all of them, in some order
						knocks++
						all = append(all, methods[m.method](peer.spoofed(knocks), c.Keys[0].Identity, "db")...)
					}
					start := time.Now()
					for _, data := range all {
						h.Advance(20 * time.Millisecond) // for the budgets, at 10,000 clients
						p := packet.Packet{Data: data}
						p.Parse()
						h.gate.Admit(&p)
						if k := h.worker.Next(); k != nil {
							h.worker.Process(k)
						}
					}
					spent += time.Since(start)
					h.Advance(2 * testWindow)
					h.gate.rotateTable(h.builder)
					h.gate.sweep()
				}
				if got := h.gate.stats.knocks[knock.OK].Load(); got != uint64(knocks) {
					b.Fatalf("%d of %d were accepted", got, knocks)
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(knocks), "ns/knock")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkKnockTable measures the table of expected knocks: a full build, as
// at the start and after a jump of the clock, and what each change of slots
// adds.
func BenchmarkKnockTable(b *testing.B) {
	for _, n := range clientCounts {
		for _, m := range benchFamilies {
			if m.families&policy.MethodsV1 != 0 {
				continue
			}
			h := benchHarness(b, n, m.families)
			p := h.gate.policy.Load()
			for name, jump := range map[string]time.Duration{"turn": testWindow, "whole": time.Hour} {
				b.Run(fmt.Sprintf("%s/clients=%d/%s", m.method, n, name), func(b *testing.B) {
					now, old := h.Now(), h.gate.knocks.Table()
					build := h.gate.knocks.NewBuilder()
					for b.Loop() {
						now = now.Add(jump)
						t := build.Build(p, now, old)
						build.Recycle(old)
						old = t
					}
					b.ReportMetric(float64(old.Size()*16)/1024, "KiB")
				})
			}
		}
	}
}

// The benchmarks must measure packets of the kind that they name.
func TestBenchmarkJunk(t *testing.T) {
	for _, m := range benchFamilies {
		h := newHarness(t, allMethods(withMethods(m.families)))
		want := map[policy.MethodSet]Reason{
			policy.MethodUDP: ReasonKnock, policy.MethodUDPSeq: ReasonKnock, policy.MethodUDPv2: ReasonNotKnock, policy.MethodSYN: ReasonNoGrant, policy.MethodSYNSeq: ReasonNoGrant,
		}[m.families]
		b := m.junk(h.peer("192.0.2.1"), h.random)
		packettest.Checksums(b)
		h.want(b, want)
		h.decide()
		h.wantEmpty()
	}
}
