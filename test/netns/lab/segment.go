//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"

	"github.com/knockgw/knockgw/internal/netlab"
)

// TCP flags of a Segment.
const (
	FIN = netlab.FlagFIN
	SYN = netlab.FlagSYN
	RST = netlab.FlagRST
	PSH = netlab.FlagPSH
	ACK = netlab.FlagACK
)

const (
	largeWindow = 64240
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

// Append appends the segment in an IP packet of the family of its addresses,
// with right lengths and checksums.
func (s *Segment) Append(b []byte) []byte {
	tcp := make([]byte, netlab.TCPHeader, netlab.TCPHeader+len(s.Options)+len(s.Payload))
	binary.BigEndian.PutUint16(tcp, s.Src.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.Seq)
	binary.BigEndian.PutUint32(tcp[8:], s.Ack)
	tcp[12] = byte((netlab.TCPHeader+len(s.Options))/4) << 4
	tcp[13] = s.Flags
	binary.BigEndian.PutUint16(tcp[14:], largeWindow)
	tcp = append(append(tcp, s.Options...), s.Payload...)
	binary.BigEndian.PutUint16(tcp[16:], netlab.Checksum(s.Src.Addr(), s.Dst.Addr(), netlab.ProtoTCP, tcp))
	return append(netlab.AppendIPHeader(b, s.Src.Addr(), s.Dst.Addr(), netlab.ProtoTCP, len(tcp)), tcp...)
}

// AppendTooBig appends the ICMP error of a router that a packet does not get
// through: Fragmentation Needed or Packet Too Big, with that MTU, about the
// packet quoted.
func AppendTooBig(b []byte, router netip.Addr, mtu uint32, quoted []byte) []byte {
	var dst netip.Addr
	message := make([]byte, 8)
	if router.Is4() {
		dst = netip.AddrFrom4([4]byte(quoted[12:]))
		message[0], message[1] = 3, 4
		binary.BigEndian.PutUint16(message[6:], uint16(mtu))
		message = append(message, quoted[:netlab.IPv4Header+8]...)
		binary.BigEndian.PutUint16(message[2:], netlab.Checksum(netip.Addr{}, netip.Addr{}, netlab.ProtoICMP, message))
		return append(netlab.AppendIPHeader(b, router, dst, netlab.ProtoICMP, len(message)), message...)
	}
	dst = netip.AddrFrom16([16]byte(quoted[8:]))
	message[0] = 2
	binary.BigEndian.PutUint32(message[4:], mtu)
	message = append(message, quoted[:min(len(quoted), netlab.IPv6Header+netlab.TCPHeader)]...)
	binary.BigEndian.PutUint16(message[2:], netlab.Checksum(router, dst, netlab.ProtoICMPv6, message))
	return append(netlab.AppendIPHeader(b, router, dst, netlab.ProtoICMPv6, len(message)), message...)
}

// A SeenSegment is what a test reads of a TCP segment on a wire.
type SeenSegment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    byte
	Payload  []byte // borrowed
}

// ReadSegment reads an IP packet without extension headers; ok is false if
// there is no TCP in it.
func ReadSegment(packet []byte) (s SeenSegment, ok bool) {
	var src, dst netip.Addr
	var tcp []byte
	switch {
	case len(packet) >= netlab.IPv4Header+netlab.TCPHeader && packet[0]>>4 == 4 && packet[9] == netlab.ProtoTCP:
		src, dst = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		tcp = packet[int(packet[0]&15)*4:]
	case len(packet) >= netlab.IPv6Header+netlab.TCPHeader && packet[0]>>4 == 6 && packet[6] == netlab.ProtoTCP:
		src, dst = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		tcp = packet[netlab.IPv6Header:]
	default:
		return s, false
	}
	return SeenSegment{
		Src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)), Dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
		Seq: binary.BigEndian.Uint32(tcp[4:]), Ack: binary.BigEndian.Uint32(tcp[8:]), Flags: tcp[13] & (FIN | SYN | RST | PSH | ACK),
		Payload: tcp[min(len(tcp), int(tcp[12]>>4)*4):],
	}, true
}
