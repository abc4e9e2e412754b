package packet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Protocol is an IP protocol number, as far as the gateway reads them.
type Protocol uint8

// The protocols that Parse understands.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
)

// TCP flag bits (RFC 9293, 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// A Packet is one IP packet and what Parse read from its headers.
type Packet struct {
	// Data is the packet from the IP header to its last byte. It is borrowed
	// from whoever filled the Packet; a Device lends it until its next Read.
	Data    []byte
	Offload Offload

	// What follows is set by Parse.

	DropReason DropReason // why the packet is to be refused; nothing below counts then, but for a Fragment
	Version    uint8      // 4 or 6
	Proto      Protocol   // the transport protocol
	Tuple      Tuple      // addresses, and ports where the protocol has them
	L4         int        // offset of the transport header in Data
	Payload    int        // offset of what follows the transport header

	// TCP only.
	Flags    uint8
	Window   uint16
	Seq, Ack uint32

	// ICMP only.
	ICMPType, ICMPCode uint8

	// FaultFragment and FaultTinyFragment only.
	Fragment Fragment
}

const (
	ipv4HeaderSize = 20 // without options; we take none
	ipv6HeaderSize = 40

	ipv4AddressSize = 4
	ipv6AddressSize = 16

	tcpHeaderSize  = 20 // without options
	udpHeaderSize  = 8
	icmpHeaderSize = 8
)

// Parse reads the headers of p.Data and sets p's other fields. It reports
// whether the packet is fit to be judged; if not, p.Fault says why. It trims
// what follows the length that the IP header gives, verifies the checksums
// unless p.Offload vouches for them, and never allocates.
//
// Everything that two implementations could read differently is refused:
// IPv4 options, IPv6 extension headers, and fragments. Of a fragment it sets
// what a Reassembler needs: see Fragment.
func (p *Packet) Parse() bool {
	p.DropReason = p.parse()
	return p.DropReason == NotDropped
}

func (p *Packet) parse() DropReason {
	b := p.Data
	if len(b) < ipv4HeaderSize {
		return DropShort
	}
	var f DropReason
	switch b[0] >> 4 {
	case 4:
		f = p.parse4(b)
	case 6:
		f = p.parse6(b)
	default:
		return DropVersion
	}
	if f != NotDropped {
		return f
	}
	if !validSource(p.Tuple.Src) || p.Tuple.Src == p.Tuple.Dst {
		return DropAddress // the latter is a LAND packet
	}
	return p.parseTransport()
}

func (p *Packet) parse4(b []byte) DropReason {
	headerLen := int(b[0]&15) * 4
	if headerLen < ipv4HeaderSize || headerLen > len(b) {
		return DropHeaderLength
	}
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total < headerLen || total > len(b) {
		return DropLength
	}
	if checksum.Checksum(b[:headerLen], 0) != 0xffff {
		return DropIPChecksum
	}
	if binary.BigEndian.Uint16(b[6:])&(ipv4MoreFragments|ipv4OffsetMask) != 0 {
		return p.parseFragment4(b[:total], headerLen)
	}
	if headerLen > ipv4HeaderSize {
		return DropOptions
	}
	p.Version = 4
	p.Proto = Protocol(b[9])
	p.Tuple.Src = addr4(b[12:16])
	p.Tuple.Dst = addr4(b[16:20])
	p.L4 = headerLen
	p.Data = b[:total]
	return NotDropped
}

func (p *Packet) parse6(b []byte) DropReason {
	if len(b) < ipv6HeaderSize {
		return DropShort
	}
	total := ipv6HeaderSize + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return DropLength
	}
	// Extension header numbers: IANA "IPv6 Extension Header Types".
	switch next := b[6]; next {
	case ipv6FragmentHeader:
		return p.parseFragment6(b[:total])
	case 0, 43, 50, 51, 59, 60, 135, 139, 140, 253, 254:
		return DropExtension
	default:
		p.Proto = Protocol(next)
	}
	p.Version = 6
	copy(p.Tuple.Src[:], b[8:24])
	copy(p.Tuple.Dst[:], b[24:40])
	if p.Tuple.Src.Is4() || p.Tuple.Dst.Is4() {
		return DropAddress // ::ffff:0:0/96 on the wire would pass for IPv4 here
	}
	p.L4 = ipv6HeaderSize
	p.Data = b[:total]
	return NotDropped
}

// validSource tells whether somebody could wait for an answer at a: not
// multicast, not unspecified, not broadcast, not loopback.
func validSource(a Addr) bool {
	if a.Is4() {
		return a[12] != 0 && a[12] != 127 && a[12] < 224
	}
	return a[0] != 0xff && a != Addr{} && a != Addr{15: 1}
}

func (p *Packet) parseTransport() DropReason {
	b := p.Data[p.L4:]
	p.Tuple.SrcPort, p.Tuple.DstPort = 0, 0
	switch p.Proto {
	case TCP:
		return p.parseTCP(b)
	case UDP:
		return p.parseUDP(b)
	case ICMP, ICMPv6:
		if (p.Proto == ICMPv6) != (p.Version == 6) {
			return DropProtocol
		}
		if len(b) < icmpHeaderSize {
			return DropTransport
		}
		p.ICMPType, p.ICMPCode = b[0], b[1]
		p.Payload = p.L4 + icmpHeaderSize
		if p.Proto == ICMP && !p.Offload.ChecksumValid && checksum.Checksum(b, 0) != 0xffff {
			return DropChecksum // RFC 792: without pseudo header
		}
		if p.Proto == ICMPv6 && !p.checksumOK(b) {
			return DropChecksum
		}
		return NotDropped
	default:
		return DropProtocol
	}
}

func (p *Packet) parseTCP(b []byte) DropReason {
	if len(b) < tcpHeaderSize {
		return DropTransport
	}
	headerLen := int(b[12]>>4) * 4
	if headerLen < tcpHeaderSize || headerLen > len(b) {
		return DropTransport
	}
	if f := p.ports(b); f != NotDropped {
		return f
	}
	p.Seq = binary.BigEndian.Uint32(b[4:])
	p.Ack = binary.BigEndian.Uint32(b[8:])
	p.Flags = b[13]
	p.Window = binary.BigEndian.Uint16(b[14:])
	p.Payload = p.L4 + headerLen
	if !p.checksumOK(b) {
		return DropChecksum
	}
	return NotDropped
}

func (p *Packet) parseUDP(b []byte) DropReason {
	if len(b) < udpHeaderSize {
		return DropTransport
	}
	if int(binary.BigEndian.Uint16(b[4:])) != len(b) {
		return DropLength
	}
	if f := p.ports(b); f != NotDropped {
		return f
	}
	p.Payload = p.L4 + udpHeaderSize
	if b[6] == 0 && b[7] == 0 {
		// No checksum: legal in IPv4 only (RFC 768; RFC 8200, 8.1).
		if p.Version == 6 {
			return DropChecksum
		}
		return NotDropped
	}
	if !p.checksumOK(b) {
		return DropChecksum
	}
	return NotDropped
}

func (p *Packet) ports(b []byte) DropReason {
	p.Tuple.SrcPort = binary.BigEndian.Uint16(b)
	p.Tuple.DstPort = binary.BigEndian.Uint16(b[2:])
	if p.Tuple.SrcPort == 0 || p.Tuple.DstPort == 0 {
		return DropPort
	}
	return NotDropped
}

// checksumOK verifies the transport checksum over b, the transport header and
// all that follows, and the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
func (p *Packet) checksumOK(b []byte) bool {
	if p.Offload.ChecksumValid || p.Offload.NeedsChecksum {
		return true
	}
	// The addresses are the last of the IP header: no options, no extensions.
	addresses := p.Data[ipv6HeaderSize-2*ipv6AddressSize : p.L4]
	if p.Version == 4 {
		addresses = p.Data[ipv4HeaderSize-2*ipv4AddressSize : p.L4]
	}
	sum := uint64(p.Proto) + uint64(len(b))
	for a := addresses; len(a) >= 4; a = a[4:] {
		sum += uint64(binary.BigEndian.Uint32(a)) // in any order and width (RFC 1071, 2)
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return checksum.Checksum(b, uint16(sum)) == 0xffff
}

// TCPOptions returns the bytes of the TCP options, borrowed from p.Data.
func (p *Packet) TCPOptions() []byte { return p.Data[p.L4+tcpHeaderSize : p.Payload] }

// OriginalDatagram reads the packet that an ICMP error carries back to its sender. It
// returns the tuple in the direction in which that packet was sent, and its
// TCP sequence number. ok is false unless p is an ICMP error (RFC 792, RFC
// 4443) about an unfragmented TCP segment of which at least 8 bytes came back.
func (p *Packet) OriginalDatagram() (t Tuple, seq uint32, ok bool) {
	b := p.Data[p.Payload:]
	switch p.Proto {
	case ICMP:
		// Destination unreachable, time exceeded, parameter problem.
		if p.ICMPType != 3 && p.ICMPType != 11 && p.ICMPType != 12 {
			return t, 0, false
		}
		if len(b) < ipv4HeaderSize || b[0]>>4 != 4 || Protocol(b[9]) != TCP {
			return t, 0, false
		}
		headerLen := int(b[0]&15) * 4
		if headerLen < ipv4HeaderSize || len(b) < headerLen+8 || binary.BigEndian.Uint16(b[6:])&ipv4OffsetMask != 0 {
			return t, 0, false
		}
		t.Src, t.Dst = addr4(b[12:16]), addr4(b[16:20])
		b = b[headerLen:]
	case ICMPv6:
		// Types 1 to 4 are the errors (RFC 4443, 2.1).
		if p.ICMPType < 1 || p.ICMPType > 4 {
			return t, 0, false
		}
		if len(b) < ipv6HeaderSize+8 || b[0]>>4 != 6 || Protocol(b[6]) != TCP {
			return t, 0, false
		}
		copy(t.Src[:], b[8:24])
		copy(t.Dst[:], b[24:40])
		b = b[ipv6HeaderSize:]
	default:
		return t, 0, false
	}
	t.SrcPort = binary.BigEndian.Uint16(b)
	t.DstPort = binary.BigEndian.Uint16(b[2:])
	return t, binary.BigEndian.Uint32(b[4:]), true
}

// PathMTU returns the path MTU that an ICMP error carries, in bytes: that of
// "fragmentation needed" (RFC 1191, 4; 0 from a router that does not know) or
// "packet too big" (RFC 4443, 3.2). It is -1 where p is none of these.
func (p *Packet) PathMTU() int {
	switch {
	case p.Proto == ICMP && p.ICMPType == 3 && p.ICMPCode == 4:
		return int(binary.BigEndian.Uint16(p.Data[p.L4+6:]))
	case p.Proto == ICMPv6 && p.ICMPType == 2:
		return int(min(binary.BigEndian.Uint32(p.Data[p.L4+4:]), MaxPacket))
	default:
		return -1
	}
}

// DecodeTCP reads a packet that our own stack built: header holds at least its IP
// and TCP headers, and becomes p.Data. It sets the addresses, ports, flags,
// numbers and window and verifies nothing but lengths; ok is false unless the
// packet is TCP without IP options.
func (p *Packet) DecodeTCP(header []byte) (ok bool) {
	if len(header) < ipv4HeaderSize {
		return false
	}
	switch header[0] {
	case 0x45:
		p.Version, p.L4, p.Proto = 4, ipv4HeaderSize, Protocol(header[9])
		p.Tuple.Src, p.Tuple.Dst = addr4(header[12:16]), addr4(header[16:20])
	default:
		if header[0]>>4 != 6 || len(header) < ipv6HeaderSize {
			return false
		}
		p.Version, p.L4, p.Proto = 6, ipv6HeaderSize, Protocol(header[6])
		copy(p.Tuple.Src[:], header[8:24])
		copy(p.Tuple.Dst[:], header[24:40])
	}
	if p.Proto != TCP || len(header) < p.L4+tcpHeaderSize {
		return false
	}
	b := header[p.L4:]
	p.Tuple.SrcPort = binary.BigEndian.Uint16(b)
	p.Tuple.DstPort = binary.BigEndian.Uint16(b[2:])
	p.Seq = binary.BigEndian.Uint32(b[4:])
	p.Ack = binary.BigEndian.Uint32(b[8:])
	p.Flags = b[13]
	p.Window = binary.BigEndian.Uint16(b[14:])
	headerLen := int(b[12]>>4) * 4
	if headerLen < tcpHeaderSize || headerLen > len(b) {
		return false
	}
	p.Payload = p.L4 + headerLen
	p.Data = header
	return true
}
