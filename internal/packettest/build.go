// Package packettest builds packets for tests byte by byte, with its own
// Internet checksum, so that the decoder under test does not share the mistakes
// of the encoder.
package packettest

import (
	"encoding/binary"
	"net/netip"

	"github.com/knockgw/knockgw/packet"
)

const (
	ipv4Header = 20
	ipv6Header = 40
	tcpHeader  = 20
	udpHeader  = 8
	hopLimit   = 64
)

// TCP is a segment to build.
type TCP struct {
	Src, Dst netip.AddrPort // both of one family
	Flags    uint8          // packet.SYN and so on
	Seq, Ack uint32
	Window   uint16 // 0 becomes 65535
	Options  []byte // a multiple of 4 bytes, at most 40
	Payload  []byte
}

// Packet returns the segment as an IP packet with correct checksums.
func (s TCP) Packet() []byte {
	b := make([]byte, tcpHeader, tcpHeader+len(s.Options)+len(s.Payload))
	binary.BigEndian.PutUint16(b, s.Src.Port())
	binary.BigEndian.PutUint16(b[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(b[4:], s.Seq)
	binary.BigEndian.PutUint32(b[8:], s.Ack)
	b[12] = uint8((tcpHeader + len(s.Options)) / 4 << 4)
	b[13] = s.Flags
	if s.Window == 0 {
		s.Window = 65535
	}
	binary.BigEndian.PutUint16(b[14:], s.Window)
	b = append(b, s.Options...)
	return IP(s.Src.Addr(), s.Dst.Addr(), packet.TCP, append(b, s.Payload...))
}

// SYN returns the segment that begins a connection from src to dst.
func SYN(src, dst netip.AddrPort, seq uint32) []byte {
	return TCP{Src: src, Dst: dst, Flags: packet.SYN, Seq: seq}.Packet()
}

// UDP is a datagram to build.
type UDP struct {
	Src, Dst netip.AddrPort
	Payload  []byte
}

// Packet returns the datagram as an IP packet with correct checksums.
func (d UDP) Packet() []byte {
	b := make([]byte, udpHeader, udpHeader+len(d.Payload))
	binary.BigEndian.PutUint16(b, d.Src.Port())
	binary.BigEndian.PutUint16(b[2:], d.Dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(udpHeader+len(d.Payload)))
	return IP(d.Src.Addr(), d.Dst.Addr(), packet.UDP, append(b, d.Payload...))
}

// ICMP is a message to build: ICMP or ICMPv6, depending on the addresses.
type ICMP struct {
	Src, Dst   netip.Addr
	Type, Code uint8
	Rest       [4]byte // the header's second half
	Payload    []byte  // of an error: the original packet, from the IP header
}

// Packet returns the message as an IP packet with correct checksums.
func (m ICMP) Packet() []byte {
	b := append([]byte{m.Type, m.Code, 0, 0}, m.Rest[:]...)
	proto := packet.ICMP
	if m.Src.Is6() {
		proto = packet.ICMPv6
	}
	return IP(m.Src, m.Dst, proto, append(b, m.Payload...))
}

// IP returns transport with an IP header in front. The checksum fields of TCP,
// UDP and ICMP are filled in.
func IP(src, dst netip.Addr, proto packet.Protocol, transport []byte) []byte {
	var b []byte
	if src.Is4() {
		b = make([]byte, ipv4Header, ipv4Header+len(transport))
		b[0], b[8], b[9] = 0x45, hopLimit, byte(proto)
		binary.BigEndian.PutUint16(b[2:], uint16(ipv4Header+len(transport)))
		b[6] = 0x40 // don't fragment
		s, d := src.As4(), dst.As4()
		copy(b[12:], s[:])
		copy(b[16:], d[:])
	} else {
		b = make([]byte, ipv6Header, ipv6Header+len(transport))
		b[0], b[6], b[7] = 0x60, byte(proto), hopLimit
		binary.BigEndian.PutUint16(b[4:], uint16(len(transport)))
		s, d := src.As16(), dst.As16()
		copy(b[8:], s[:])
		copy(b[24:], d[:])
	}
	b = append(b, transport...)
	Checksums(b)
	return b
}

// Checksums writes correct checksums into a modified packet: that of the IPv4
// header, and that of TCP, UDP or ICMP if its header directly follows the IP
// header and is complete.
func Checksums(b []byte) {
	var (
		header int
		proto  packet.Protocol
		addrs  []byte
	)
	if b[0]>>4 == 4 {
		header, proto, addrs = int(b[0]&15)*4, packet.Protocol(b[9]), b[12:20]
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^fold(sum(b[:header])))
	} else {
		header, proto, addrs = ipv6Header, packet.Protocol(b[6]), b[8:40]
	}

	at, ok := map[packet.Protocol]int{packet.TCP: 16, packet.UDP: 6, packet.ICMP: 2, packet.ICMPv6: 2}[proto]
	t := b[min(header, len(b)):]
	if !ok || len(t) < at+2 {
		return
	}

	pseudo := uint32(0)
	if proto != packet.ICMP {
		pseudo = sum(addrs) + uint32(proto) + uint32(len(t))
	}
	t[at], t[at+1] = 0, 0
	c := ^fold(pseudo + sum(t))
	if proto == packet.UDP && c == 0 {
		c = 0xffff // 0 says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(t[at:], c)
}

// sum adds up 16-bit words (RFC 1071); 64 KiB of them fit into 32 bits.
func sum(b []byte) (n uint32) {
	for i, x := range b {
		if i%2 == 0 {
			n += uint32(x) << 8
		} else {
			n += uint32(x)
		}
	}
	return n
}

func fold(n uint32) uint16 {
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
