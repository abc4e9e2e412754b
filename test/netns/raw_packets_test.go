//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// A rawPacket is something that no socket sends.
type rawPacket struct {
	name  string
	dst   netip.Addr
	bytes []byte
}

// serialize puts layers together, with lengths and checksums as they should be.
func serialize(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, options, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// header is an IP header of either family.
func header(src, dst netip.Addr, proto layers.IPProtocol) gopacket.NetworkLayer {
	if dst.Is6() {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv4{Version: 4, TTL: 64, Id: 1, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// rawIP is an IP packet of either family around a payload of any protocol.
func rawIP(t *testing.T, src, dst netip.Addr, proto layers.IPProtocol, payload []byte) []byte {
	t.Helper()
	return serialize(t, header(src, dst, proto).(gopacket.SerializableLayer), gopacket.Payload(payload))
}

// oddPackets is what nmap does not send, or not over IPv6: every TCP flag
// combination, every protocol, fragments, extension headers, ICMP of every
// type, and headers that lie.
func oddPackets(t *testing.T, from *lab.Host) []rawPacket {
	t.Helper()
	var all []rawPacket
	for _, dst := range targets() {
		src := from.Addr(dst)
		add := func(name string, b []byte) {
			all = append(all, rawPacket{name: fmt.Sprintf("%s to %v", name, dst), dst: dst, bytes: b})
		}
		for flags := range 256 {
			add(fmt.Sprintf("TCP with flags %#02x", flags), tcpPacket(t, src, dst, byte(flags)))
		}
		for proto := range 256 {
			add(fmt.Sprintf("protocol %d", proto), rawIP(t, src, dst, layers.IPProtocol(proto), make([]byte, 24)))
		}
		for kind := range 256 {
			add(fmt.Sprintf("ICMP type %d", kind), icmpPacket(t, src, dst, byte(kind)))
		}
		for i, b := range fragments(t, src, dst) {
			add(fmt.Sprintf("fragment %d", i), b)
		}
		short := tcpPacket(t, src, dst, 0x02)
		add("a SYN with half a header", short[:len(short)-10])
		bad := tcpPacket(t, src, dst, 0x02)
		bad[len(bad)-4] ^= 0xff // the checksum's first byte: the header has no options
		add("a SYN with a bad checksum", bad)
	}
	return all
}

// tcpPacket is a TCP header with the given flags to the port of a service.
func tcpPacket(t *testing.T, src, dst netip.Addr, flags byte) []byte {
	t.Helper()
	bit := func(n int) bool { return flags>>n&1 != 0 }
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 22, Seq: 1000, Ack: 2000, Window: 1024,
		FIN: bit(0), SYN: bit(1), RST: bit(2), PSH: bit(3), ACK: bit(4), URG: bit(5), ECE: bit(6), CWR: bit(7)}
	ip := header(src, dst, layers.IPProtocolTCP)
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip.(gopacket.SerializableLayer), tcp)
}

// tcpSegment is a whole IP packet around a TCP header and what follows it, from
// one port to another.
func tcpSegment(t *testing.T, src, dst netip.AddrPort, tcp layers.TCP, payload []byte) []byte {
	t.Helper()
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	ip := header(src.Addr(), dst.Addr(), layers.IPProtocolTCP)
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip.(gopacket.SerializableLayer), &tcp, gopacket.Payload(payload))
}

// icmpPacket is an ICMP message of the destination's family. Where it is an
// error it quotes a packet that the gateway might have sent.
func icmpPacket(t *testing.T, src, dst netip.Addr, kind byte) []byte {
	t.Helper()
	quoted := tcpPacket(t, dst, src, 0x12)
	if dst.Is4() {
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 1, Seq: 1}
		return serialize(t, header(src, dst, layers.IPProtocolICMPv4).(gopacket.SerializableLayer), icmp,
			gopacket.Payload(quoted))
	}
	ip := header(src, dst, layers.IPProtocolICMPv6)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip.(gopacket.SerializableLayer), icmp, gopacket.Payload(append(make([]byte, 4), quoted...)))
}

// fragments are pieces of a SYN: a whole datagram in two, a first without a
// last, a last without a first, and over IPv6 also a SYN behind extension
// headers.
func fragments(t *testing.T, src, dst netip.Addr) [][]byte {
	t.Helper()
	whole := tcpPacket(t, src, dst, 0x02)
	if dst.Is4() {
		const header4 = 20
		segment := whole[header4:]
		piece := func(id uint16, more bool, offset uint16, payload []byte) []byte {
			ip := &layers.IPv4{Version: 4, TTL: 64, Id: id, Protocol: layers.IPProtocolTCP, FragOffset: offset,
				SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
			if more {
				ip.Flags = layers.IPv4MoreFragments
			}
			return serialize(t, ip, gopacket.Payload(payload))
		}
		options := &layers.IPv4{Version: 4, TTL: 64, Id: 9, Protocol: layers.IPProtocolTCP,
			SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
			Options: []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}}
		return [][]byte{
			piece(2, true, 0, segment[:8]), piece(2, true, 1, segment[8:16]), piece(2, false, 2, segment[16:]),
			piece(3, true, 0, segment[:16]),
			piece(4, false, 2, segment[16:]),
			serialize(t, options, gopacket.Payload(segment)),
		}
	}
	const header6 = 40
	segment := whole[header6:]
	behind := func(first layers.IPProtocol, extension ...byte) []byte {
		return rawIP(t, src, dst, first, append(extension, segment...))
	}
	piece := func(id byte, more, offset byte, payload []byte) []byte {
		fragment := []byte{byte(layers.IPProtocolTCP), 0, 0, offset<<3 | more, 0, 0, 0, id}
		return rawIP(t, src, dst, layers.IPProtocolIPv6Fragment, append(fragment, payload...))
	}
	next := byte(layers.IPProtocolTCP)
	return [][]byte{
		piece(2, 1, 0, segment[:8]), piece(2, 1, 1, segment[8:16]), piece(2, 0, 2, segment[16:]),
		piece(3, 1, 0, segment[:16]),
		piece(4, 0, 2, segment[16:]),
		piece(5, 0, 0, segment), // an atomic fragment
		behind(layers.IPProtocolIPv6HopByHop, next, 0, 1, 4, 0, 0, 0, 0),
		behind(layers.IPProtocolIPv6Destination, next, 0, 1, 4, 0, 0, 0, 0),
		behind(layers.IPProtocolIPv6Routing, next, 0, 0, 0, 0, 0, 0, 0),
		behind(layers.IPProtocolIPv6Destination, next, 0, 0xc0, 4, 0, 0, 0, 0), // an unknown option that wants an answer
	}
}
