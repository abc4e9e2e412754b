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

// refusing is a gateway at whose gate a packet can be refused, and that packet. Nothing of it runs.
func refusing(tb testing.TB) (*parts, *packet.Packet) {
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
	p := &parts{g: g}
	p.gate, err = admission.New(admission.Options{
		Policy: g.now.Load().policy, Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(*packet.Packet, admission.Verdict) {}, Evicted: func(packet.Tuple) {},
		Limits: gateconfig.Limits(&cfg.Limits), Ban: admission.Ban(cfg.Ban),
	})
	if err != nil {
		tb.Fatal(err)
	}
	stranger := netip.MustParseAddrPort("192.0.2.7:40000")
	return p, &packet.Packet{Data: packettest.SYN(stranger, netip.MustParseAddrPort("10.77.0.1:443"), 1)}
}

func TestNothingIsAllocatedForARefusedPacketThatNobodyWatches(t *testing.T) {
	p, q := refusing(t)
	if n := testing.AllocsPerRun(100, func() {
		if !q.Parse() || p.admit(q).Pass {
			t.Fatal("a stranger's SYN was not refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRefuse is a stranger's SYN from the device's buffer to the decision, with no trace and no capture.
func BenchmarkRefuse(b *testing.B) {
	p, q := refusing(b)
	b.ReportAllocs()
	for b.Loop() {
		if !q.Parse() || p.admit(q).Pass {
			b.Fatal("a stranger's SYN was not refused")
		}
	}
}
