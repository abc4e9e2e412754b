//go:build linux

package filter_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/filter/filtertest"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// BenchmarkDrop measures the program's time for a packet, by kind.
func BenchmarkDrop(b *testing.B) {
	filtertest.Require(b)
	f, err := filtertest.New(filter.Options{Flows: 1 << 17, Sources: 1 << 16, Expected: 200_000,
		Policy: testPolicy(b, everyMethod)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	eachFamily(func(p testPeer) {
		l := netip.AddrPortFrom(p.gateway, 22)
		f.Flow(p.tuple(2000, 22), true)
		stamps := []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
		for _, c := range []struct {
			name   string
			packet []byte
		}{
			{"SYN", p.syn(1000)},
			{"SYN with timestamps", packettest.TCP{Src: netip.AddrPortFrom(p.addr, 1000), Dst: l, Flags: packet.SYN, Options: stamps}.Packet()},
			{"ACK", p.tcp(1000, 22, packet.ACK)},
			{"SYN to no service", p.tcp(1000, 23, packet.SYN)},
			{"datagram to no port", p.udp(53, make([]byte, 40))},
			{"datagram that is no knock", p.udp(knockPort, make([]byte, 128))},
			{"knock (passes)", p.knock()},
			{"segment of a flow (passes)", p.tcp(2000, 22, packet.ACK)},
			{"echo", packettest.ICMP{Src: p.addr, Dst: p.gateway, Type: 8}.Packet()},
		} {
			b.Run(fmt.Sprintf("%s/%s", c.name, family(p)), func(b *testing.B) {
				each, err := f.Time(c.packet, b.N)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
			})
		}
	})
}

func family(p testPeer) string {
	if p.addr.Is6() {
		return "IPv6"
	}
	return "IPv4"
}
