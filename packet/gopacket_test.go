package packet_test

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/packet"
)

// drawIP draws valid source addresses.
func drawIP(t *rapid.T, v6 bool, label string) netip.Addr {
	if v6 {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
		b[0] = 0x20 // global unicast
		return netip.AddrFrom16(b)
	}
	b := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, label))
	b[0] = 1 + b[0]%126
	return netip.AddrFrom4(b)
}

func drawPacket(t *rapid.T) ([]byte, gopacket.LayerType) {
	v6 := rapid.Bool().Draw(t, "v6")
	src, dst := drawIP(t, v6, "src"), drawIP(t, v6, "dst")
	if src == dst {
		dst = dst.Next()
	}
	port := rapid.Uint16Range(1, 65535)
	payload := gopacket.Payload(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"))
	kind := rapid.SampledFrom([]layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv4}).Draw(t, "kind")
	if v6 && kind == layers.IPProtocolICMPv4 {
		kind = layers.IPProtocolICMPv6
	}
	var network interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	}
	first := layers.LayerTypeIPv4
	if v6 {
		first = layers.LayerTypeIPv6
		network = &layers.IPv6{Version: 6, NextHeader: kind, HopLimit: 64, TrafficClass: rapid.Byte().Draw(t, "class"),
			FlowLabel: rapid.Uint32Range(0, 1<<20-1).Draw(t, "label"), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	} else {
		network = &layers.IPv4{Version: 4, Protocol: kind, TTL: 64, TOS: rapid.Byte().Draw(t, "tos"),
			Id: rapid.Uint16().Draw(t, "id"), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	var transport gopacket.SerializableLayer
	switch kind {
	case layers.IPProtocolTCP:
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(port.Draw(t, "sport")), DstPort: layers.TCPPort(port.Draw(t, "dport")),
			Seq: rapid.Uint32().Draw(t, "seq"), Ack: rapid.Uint32().Draw(t, "ack"), Window: rapid.Uint16().Draw(t, "window"),
			FIN: rapid.Bool().Draw(t, "fin"), SYN: rapid.Bool().Draw(t, "syn"), RST: rapid.Bool().Draw(t, "rst"),
			PSH: rapid.Bool().Draw(t, "psh"), ACK: rapid.Bool().Draw(t, "ack flag"), URG: rapid.Bool().Draw(t, "urg"),
			ECE: rapid.Bool().Draw(t, "ece"), CWR: rapid.Bool().Draw(t, "cwr"),
		}
		for range rapid.IntRange(0, 10).Draw(t, "options") {
			tcp.Options = append(tcp.Options, layers.TCPOption{OptionType: layers.TCPOptionKindNop})
		}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		transport = tcp
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(port.Draw(t, "sport")), DstPort: layers.UDPPort(port.Draw(t, "dport"))}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		transport = udp
	case layers.IPProtocolICMPv4:
		transport = &layers.ICMPv4{TypeCode: layers.ICMPv4TypeCode(rapid.Uint16().Draw(t, "type"))}
	default:
		icmp := &layers.ICMPv6{TypeCode: layers.ICMPv6TypeCode(rapid.Uint16().Draw(t, "type"))}
		if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		payload = append(make(gopacket.Payload, 4), payload...) // gopacket omits the second half of the header
		transport = icmp
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, network, transport, payload); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), first
}

func TestParseAgreesWithGopacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, first := drawPacket(t)
		p := packet.Packet{Data: b}
		if !p.Parse() {
			t.Fatalf("rejected: %v\n%x", p.DropReason, b)
		}
		// It fails on payloads that it decodes by their port; the layers below
		// are valid.
		other := gopacket.NewPacket(b, first, gopacket.Default)
		flow := other.NetworkLayer().NetworkFlow()
		src, _ := netip.AddrFromSlice(flow.Src().Raw())
		dst, _ := netip.AddrFromSlice(flow.Dst().Raw())
		if p.Tuple.Src.Netip() != src || p.Tuple.Dst.Netip() != dst {
			t.Fatalf("addresses %v, gopacket %v", p.Tuple, flow)
		}
		if p.L4 != len(other.NetworkLayer().LayerContents()) {
			t.Fatalf("transport at %d, gopacket at %d", p.L4, len(other.NetworkLayer().LayerContents()))
		}
		switch p.Proto {
		case packet.TCP:
			tcp := other.Layer(layers.LayerTypeTCP).(*layers.TCP)
			if p.Tuple.SrcPort != uint16(tcp.SrcPort) || p.Tuple.DstPort != uint16(tcp.DstPort) || p.Seq != tcp.Seq || p.Ack != tcp.Ack ||
				p.Window != tcp.Window || string(p.Data[p.Payload:]) != string(tcp.Payload) ||
				p.Flags&packet.FIN != 0 != tcp.FIN || p.Flags&packet.SYN != 0 != tcp.SYN || p.Flags&packet.RST != 0 != tcp.RST ||
				p.Flags&packet.PSH != 0 != tcp.PSH || p.Flags&packet.ACK != 0 != tcp.ACK || p.Flags&packet.URG != 0 != tcp.URG {
				t.Fatalf("%+v\n%+v", p, tcp)
			}
			var q packet.Packet
			if !q.DecodeTCP(b) || q.Tuple != p.Tuple || q.Seq != p.Seq || q.Ack != p.Ack || q.Flags != p.Flags || q.Payload != p.Payload {
				t.Fatalf("DecodeTCP and Parse differ: %+v %+v", q, p)
			}
		case packet.UDP:
			udp := other.Layer(layers.LayerTypeUDP).(*layers.UDP)
			if p.Tuple.SrcPort != uint16(udp.SrcPort) || p.Tuple.DstPort != uint16(udp.DstPort) || string(p.Data[p.Payload:]) != string(udp.Payload) {
				t.Fatalf("%+v\n%+v", p, udp)
			}
		case packet.ICMP:
			if got := layers.CreateICMPv4TypeCode(p.ICMPType, p.ICMPCode); got != other.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4).TypeCode {
				t.Fatalf("type and code %v", got)
			}
		case packet.ICMPv6:
			if got := layers.CreateICMPv6TypeCode(p.ICMPType, p.ICMPCode); got != other.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6).TypeCode {
				t.Fatalf("type and code %v", got)
			}
		}
	})
}

// A one's complement sum detects every change of a single bit.
func TestParseDetectsBitFlips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, _ := drawPacket(t)
		p := packet.Packet{Data: b}
		if !p.Parse() {
			t.Fatalf("rejected: %v", p.DropReason)
		}
		from := 0
		if p.Version == 6 {
			from = 8 // the fixed header has no checksum; addresses are in the pseudo header
		}
		bit := rapid.IntRange(from*8, len(b)*8-1).Draw(t, "bit")
		b[bit/8] ^= 0x80 >> (bit % 8)
		if p.Proto == packet.UDP && p.Version == 4 && b[26] == 0 && b[27] == 0 {
			return // the flip has made it a datagram without checksum
		}
		if p = (packet.Packet{Data: b}); p.Parse() {
			t.Fatalf("bit %d flipped and accepted", bit)
		}
	})
}
