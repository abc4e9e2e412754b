//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"
)

// TCP flags of a Segment.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

const (
	ip4Header, ip6Header  = 20, 40
	plainTCP              = 20 // bytes of a TCP header without options
	hops                  = 64
	largeWindow           = 64240
	protoICMP, protoICMP6 = 1, 58
)

// A Segment is a TCP segment as a host without a connection makes it: every
// field is what the attacker wants.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    byte
	Options  []byte // whole words
	Payload  []byte
}

// Append appends the segment in an IP packet of the family of its addresses, with
// right lengths and checksums.
func (s *Segment) Append(b []byte) []byte {
	tcp := make([]byte, plainTCP, plainTCP+len(s.Options)+len(s.Payload))
	binary.BigEndian.PutUint16(tcp, s.Src.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.Seq)
	binary.BigEndian.PutUint32(tcp[8:], s.Ack)
	tcp[12] = byte((plainTCP+len(s.Options))/4) << 4
	tcp[13] = s.Flags
	binary.BigEndian.PutUint16(tcp[14:], largeWindow)
	tcp = append(append(tcp, s.Options...), s.Payload...)
	binary.BigEndian.PutUint16(tcp[16:], Checksum(s.Src.Addr(), s.Dst.Addr(), protoTCP, tcp))
	return append(appendHeader(b, s.Src.Addr(), s.Dst.Addr(), protoTCP, len(tcp)), tcp...)
}

// AppendTooBig appends the ICMP error of a router that a packet does not get
// through: Fragmentation Needed or Packet Too Big, with that MTU, about the packet
// quoted.
func AppendTooBig(b []byte, router netip.Addr, mtu uint32, quoted []byte) []byte {
	var dst netip.Addr
	message := make([]byte, 8)
	if router.Is4() {
		dst = netip.AddrFrom4([4]byte(quoted[12:]))
		message[0], message[1] = 3, 4
		binary.BigEndian.PutUint16(message[6:], uint16(mtu))
		message = append(message, quoted[:ip4Header+8]...)
		binary.BigEndian.PutUint16(message[2:], Checksum(netip.Addr{}, netip.Addr{}, protoICMP, message))
		return append(appendHeader(b, router, dst, protoICMP, len(message)), message...)
	}
	dst = netip.AddrFrom16([16]byte(quoted[8:]))
	message[0] = 2
	binary.BigEndian.PutUint32(message[4:], mtu)
	message = append(message, quoted[:min(len(quoted), ip6Header+plainTCP)]...)
	binary.BigEndian.PutUint16(message[2:], Checksum(router, dst, protoICMP6, message))
	return append(appendHeader(b, router, dst, protoICMP6, len(message)), message...)
}

// appendHeader appends an IP header for a payload of that size.
func appendHeader(b []byte, src, dst netip.Addr, proto byte, size int) []byte {
	if dst.Is4() {
		h := make([]byte, ip4Header)
		h[0], h[8], h[9] = 4<<4|ip4Header/4, hops, proto
		binary.BigEndian.PutUint16(h[2:], uint16(ip4Header+size))
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], Checksum(netip.Addr{}, netip.Addr{}, 0, h))
		return append(b, h...)
	}
	h := make([]byte, ip6Header)
	h[0], h[6], h[7] = 6<<4, proto, hops
	binary.BigEndian.PutUint16(h[4:], uint16(size))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(b, h...)
}

// Checksum is the Internet checksum of a message whose own field is 0, with the
// pseudo-header of these addresses if they are valid (RFC 9293, 3.1; RFC 8200, 8.1).
func Checksum(src, dst netip.Addr, proto byte, message []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	if src.IsValid() {
		add(src.AsSlice())
		add(dst.AsSlice())
		sum += uint32(proto) + uint32(len(message))
	}
	add(message)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// A SeenSegment is what a test reads of a TCP segment on a wire.
type SeenSegment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    byte
	Payload  []byte // borrowed
}

// ReadSegment reads an IP packet without extension headers; ok is false if there is
// no TCP in it.
func ReadSegment(packet []byte) (s SeenSegment, ok bool) {
	var src, dst netip.Addr
	var tcp []byte
	switch {
	case len(packet) >= ip4Header+plainTCP && packet[0]>>4 == 4 && packet[9] == protoTCP:
		src, dst = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		tcp = packet[int(packet[0]&15)*4:]
	case len(packet) >= ip6Header+plainTCP && packet[0]>>4 == 6 && packet[6] == protoTCP:
		src, dst = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		tcp = packet[ip6Header:]
	default:
		return s, false
	}
	return SeenSegment{
		Src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)), Dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
		Seq: binary.BigEndian.Uint32(tcp[4:]), Ack: binary.BigEndian.Uint32(tcp[8:]), Flags: tcp[13] & (FIN | SYN | RST | PSH | ACK),
		Payload: tcp[min(len(tcp), int(tcp[12]>>4)*4):],
	}, true
}

// AppendPacket appends an IP packet of the family of its addresses with a payload of
// any protocol.
func AppendPacket(b []byte, src, dst netip.Addr, proto byte, payload []byte) []byte {
	return append(appendHeader(b, src, dst, proto, len(payload)), payload...)
}
