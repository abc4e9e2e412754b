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

// families by which a benchmark's only service is knocked at.
var benchFamilies = []struct {
	method   string
	families policy.MethodSet
	junk     func(v testPeer, r *rand.ChaCha8) []byte
}{
	{"udp", policy.MethodUDP, junkV1},
	{"udp-seq", policy.MethodUDPSeq, junkV1},
	{"udp-v2", policy.MethodUDPv2, junkV2},
	{"tcp-syn", policy.MethodSYN, junkSYN},
	{"tcp-syn-seq", policy.MethodSYNSeq, junkSYN},
}

// junkV1 is a datagram that nothing but its hint distinguishes from a knock v1.
func junkV1(v testPeer, r *rand.ChaCha8) []byte {
	b := make([]byte, 150)
	_, _ = r.Read(b)
	b[24], b[25], b[26], b[27] = 0, byte(len(b)-protocol.KnockHeader), 2, 0
	return v.udp(testKnockPort, b)
}

func junkV2(v testPeer, r *rand.ChaCha8) []byte {
	b := make([]byte, protocol.KnockV2Size)
	_, _ = r.Read(b)
	return v.udp(testKnockPort, b)
}

func junkSYN(v testPeer, r *rand.ChaCha8) []byte {
	n := r.Uint64()
	f := protocol.SYNFields{Seq: uint32(n), TSVal: uint32(n >> 32), Window: uint16(r.Uint64())}
	return v.synAs(f, v.server("db"))
}

// benchHarness has one service that n clients may knock at.
func benchHarness(b *testing.B, n int, families policy.MethodSet) *harness {
	return newHarness(b, every(having(manyClients(n)...), taking(families), func(p *policy.Options) {
		p.Services = only(p.Services, "db4")
	}), func(o *Options) { o.Limits, o.Knocked = Limits{Grants: 1 << 20}, func(knock.Event) {} })
}

// differentJunk is enough packets that none is in the processor's cache because
// the one before it was the same.
func differentJunk(w *harness, junk func(testPeer, *rand.ChaCha8) []byte) [][]byte {
	all := make([][]byte, 8192)
	for i := range all {
		all[i] = junk(w.at("192.0.2.1").spoofed(i*257), w.random)
	}
	return all
}

// What a junk packet costs: parsed and judged; and, of the methods whose clients
// have to be tried, decided by the worker.
func BenchmarkKnockJunk(b *testing.B) {
	for _, m := range benchFamilies {
		for _, n := range clientCounts {
			name := fmt.Sprintf("%s/clients=%d", m.method, n)
			b.Run(name, func(b *testing.B) {
				w := benchHarness(b, n, m.families)
				all := differentJunk(w, m.junk)
				var p packet.Packet
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					p = packet.Packet{Data: all[i&(len(all)-1)]}
					p.Parse()
					w.gate.Admit(&p)
					i++
				}
			})
			if m.families&policy.MethodsV1 == 0 {
				continue
			}
			b.Run(name+"/scan", func(b *testing.B) {
				w := benchHarness(b, n, m.families)
				all := differentJunk(w, m.junk)
				var p packet.Packet
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					w.pass(time.Second) // for the budgets
					p = packet.Packet{Data: all[i&(len(all)-1)]}
					p.Parse()
					w.gate.Admit(&p)
					w.worker.Step()
					i++
				}
			})
		}
	}
}

// A service that takes everything: the table is at its largest.
func BenchmarkKnockJunkAtEveryMethod(b *testing.B) {
	for name, junk := range map[string]func(testPeer, *rand.ChaCha8) []byte{"SYN": junkSYN, "datagram": junkV2} {
		for _, n := range clientCounts {
			b.Run(fmt.Sprintf("%s/clients=%d", name, n), func(b *testing.B) {
				w := benchHarness(b, n, allFamilies)
				all := differentJunk(w, junk)
				var p packet.Packet
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					p = packet.Packet{Data: all[i&(len(all)-1)]}
					p.Parse()
					w.gate.Admit(&p)
					i++
				}
			})
		}
	}
}

// What a valid knock costs, from its first packet to its grant. The time to
// make it, and that to make the next slot's table, are left out.
func BenchmarkKnockValid(b *testing.B) {
	for _, m := range benchFamilies {
		for _, n := range clientCounts {
			b.Run(fmt.Sprintf("%s/clients=%d", m.method, n), func(b *testing.B) {
				w := benchHarness(b, n, m.families)
				clients := w.gate.policy.Load().Services()[0].Clients
				v := w.at("192.0.2.1")
				var spent time.Duration
				knocks := 0
				for b.Loop() {
					var all [][]byte
					for range min(n, 64) {
						c := clients[knocks*7919%n] // all of them, in some order
						knocks++
						all = append(all, methods[m.method](v.spoofed(knocks), c.Keys[0].Identity, "db")...)
					}
					start := time.Now()
					for _, data := range all {
						w.pass(20 * time.Millisecond) // for the budgets, at 10,000 clients
						p := packet.Packet{Data: data}
						p.Parse()
						w.gate.Admit(&p)
						if k := w.worker.Next(); k != nil {
							w.worker.Process(k)
						}
					}
					spent += time.Since(start)
					w.pass(2 * testWindow)
					w.gate.rotateTable(w.builder)
					w.gate.sweep()
				}
				if got := w.gate.stats.knocks[knock.OK].Load(); got != uint64(knocks) {
					b.Fatalf("%d of %d were accepted", got, knocks)
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(knocks), "ns/knock")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// What the table of expected knocks costs: all of it, as at the start and after
// a jump of the clock, and what each turn of the slots adds.
func BenchmarkKnockTable(b *testing.B) {
	for _, n := range clientCounts {
		for _, m := range benchFamilies {
			if m.families&policy.MethodsV1 != 0 {
				continue
			}
			w := benchHarness(b, n, m.families)
			p := w.gate.policy.Load()
			for name, jump := range map[string]time.Duration{"turn": testWindow, "whole": time.Hour} {
				b.Run(fmt.Sprintf("%s/clients=%d/%s", m.method, n, name), func(b *testing.B) {
					now, old := w.options().Now(), w.gate.knocks.Table()
					build := w.gate.knocks.NewBuilder()
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

// The packets of the benchmarks are what they are said to be.
func TestBenchmarkJunk(t *testing.T) {
	for _, m := range benchFamilies {
		w := newHarness(t, every(taking(m.families)))
		want := map[policy.MethodSet]Reason{
			policy.MethodUDP: ReasonKnock, policy.MethodUDPSeq: ReasonKnock, policy.MethodUDPv2: ReasonNotKnock, policy.MethodSYN: ReasonNoGrant, policy.MethodSYNSeq: ReasonNoGrant,
		}[m.families]
		b := m.junk(w.at("192.0.2.1"), w.random)
		packettest.Checksums(b)
		w.want(b, want)
		w.decide()
		w.empty()
	}
}
