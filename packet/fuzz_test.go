package packet_test

import (
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// inside reports whether part lies within the memory of whole.
func inside(part, whole []byte) bool {
	return len(part) == 0 || len(part) <= len(whole) && &part[0] == &whole[0]
}

func FuzzParse(f *testing.F) {
	for _, e := range families {
		for _, b := range [][]byte{
			e.tcp(packettest.TCP{Flags: packet.SYN, Options: []byte{2, 4, 5, 0xb4}, Payload: []byte("abc")}),
			e.udp("abc"), e.icmp(8, []byte("abc")), e.icmp(3, e.sent()),
		} {
			f.Add(b, false)
			f.Add(b, true)
			f.Add(b[:len(b)-1], true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, vouched bool) {
		p := packet.Packet{Data: b, Offload: packet.Offload{ChecksumValid: vouched}}
		if !p.Parse() {
			if p.DropReason.String() == "unknown" {
				t.Fatalf("unknown reason %d", p.DropReason)
			}
			return
		}
		if !inside(p.Data, b) {
			t.Fatal("Data is not the packet any more")
		}
		if p.L4 < 20 || p.L4 > p.Payload || p.Payload > len(p.Data) {
			t.Fatalf("offsets %d, %d in %d bytes", p.L4, p.Payload, len(p.Data))
		}
		if p.Proto == packet.TCP {
			if n := len(p.TCPOptions()); n > 40 || n%4 != 0 {
				t.Fatalf("%d bytes of TCP options", n)
			}
		}
		if (p.Version == 4) != p.Tuple.Src.Is4() || (p.Version == 4) != p.Tuple.Dst.Is4() {
			t.Fatalf("version %d with %v", p.Version, p.Tuple)
		}
		p.OriginalDatagram()
		p.DecodeTCP(b)
		again := packet.Packet{Data: p.Data, Offload: p.Offload}
		if !again.Parse() || again.Tuple != p.Tuple && p.Proto != packet.ICMP && p.Proto != packet.ICMPv6 {
			t.Fatalf("parsed twice: %v, then %v", p.Tuple, again.Tuple)
		}
	})
}

func FuzzDecodeTCP(f *testing.F) {
	for _, e := range families {
		f.Add(e.sent())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p packet.Packet
		if p.DecodeTCP(b) && (p.L4+20 > len(b) || p.Payload < p.L4 || p.Payload > p.L4+60) {
			t.Fatalf("offsets %d, %d in %d bytes", p.L4, p.Payload, len(b))
		}
	})
}

// kinds are packets of every kind that Parse accepts, and some others.
func kinds() map[string][]byte {
	all := map[string][]byte{"garbage": []byte("this is no packet at all")}
	for name, e := range families {
		all[name+" SYN"] = e.tcp(packettest.TCP{Flags: packet.SYN, Options: make([]byte, 20)})
		all[name+" segment"] = e.tcp(packettest.TCP{Flags: packet.ACK, Payload: make([]byte, 1400)})
		all[name+" bad checksum"] = e.tcp(packettest.TCP{Flags: packet.ACK})
		all[name+" bad checksum"][e.header()+16] ^= 1
		all[name+" knock"] = e.udp(string(make([]byte, 140)))
		all[name+" error"] = e.icmp(3, e.sent())
	}
	return all
}

func TestParseAllocs(t *testing.T) {
	for name, b := range kinds() {
		var p packet.Packet
		if n := testing.AllocsPerRun(100, func() {
			p.Data = b
			if p.Parse() {
				p.OriginalDatagram()
				p.DecodeTCP(p.Data)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	all := kinds()
	big := packettest.TCP{Src: families["IPv4"].client, Dst: families["IPv4"].server, Flags: packet.ACK, Payload: make([]byte, 65000)}.Packet()
	run := func(name string, data []byte, o packet.Offload) {
		b.Run(name, func(b *testing.B) {
			p := packet.Packet{Offload: o}
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				p.Data = data
				p.Parse()
			}
		})
	}
	for _, name := range []string{"IPv4 SYN", "IPv4 segment", "IPv4 knock", "IPv6 SYN", "IPv6 segment", "IPv4 bad checksum", "garbage"} {
		run(name, all[name], packet.Offload{})
	}
	run("IPv4 super-packet to verify", big, packet.Offload{})
	run("IPv4 super-packet vouched for", big, packet.Offload{ChecksumValid: true})
}
