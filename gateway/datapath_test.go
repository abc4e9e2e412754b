package gateway

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// refusingUpstream returns an instance that does not run, and a packet that its
// gate drops.
func refusingUpstream(tb testing.TB) (*instance, *packet.Packet) {
	tb.Helper()
	cfg, err := config.Parse("refused.yaml", []byte(`
version: 1
tun: {routes: [10.77.0.0/24]}
clients: [{id: alice, secret: "0123456789abcdef0123456789abcdef"}]
services:
  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:22"}
  - {name: web, listen: "10.77.0.1:8443", upstream: "10.0.2.2:443", mode: auth}
`))
	if err != nil {
		tb.Fatal(err)
	}
	g, err := New(cfg, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	in := &instance{o: &g.o, snapshots: &g.snapshots, flows: g.flows, observer: g.observer}
	in.gate, err = admission.New(admission.Options{
		Policy: g.snapshots.current.Load().policy, Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(*packet.Packet, admission.Verdict) {}, Evicted: func(packet.Tuple) {},
		Limits: gateconfig.Limits(&cfg.Limits), Ban: admission.Ban(cfg.Ban),
	})
	if err != nil {
		tb.Fatal(err)
	}
	attacker := netip.MustParseAddrPort("192.0.2.7:40000")
	return in, &packet.Packet{Data: packettest.SYN(attacker, netip.MustParseAddrPort("10.77.0.1:443"), 1)}
}

func TestAdmitDoesNotAllocateForDroppedPackets(t *testing.T) {
	in, p := refusingUpstream(t)
	if n := testing.AllocsPerRun(100, func() {
		if !p.Parse() || in.admit(p).Pass {
			t.Fatal("the SYN was not dropped")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRefuse measures an unauthorized SYN from the device's buffer to the
// decision, without a trace or a capture.
func BenchmarkRefuse(b *testing.B) {
	in, p := refusingUpstream(b)
	b.ReportAllocs()
	for b.Loop() {
		if !p.Parse() || in.admit(p).Pass {
			b.Fatal("the SYN was not dropped")
		}
	}
}
