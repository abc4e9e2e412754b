package packet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

const (
	ipv4HeaderSize = 20 // without options, which are rejected
	ipv6HeaderSize = 40

	ipv4AddressSize = 4
	ipv6AddressSize = 16

	tcpHeaderSize  = 20 // without options
	udpHeaderSize  = 8
	icmpHeaderSize = 8
)

// Parse decodes the headers of p.Data into the other fields of p. It reports
// whether the packet is acceptable; if not, p.DropReason says why. Parse trims
// the bytes beyond the length that the IP header states, verifies the checksums
// unless p.Offload vouches for them, and never allocates.
//
// Everything that two implementations could interpret differently is rejected:
// IPv4 options, IPv6 extension headers, and fragments. Of a fragment, Parse sets
// the fields that a Reassembler needs; see Fragment.
func (p *Packet) Parse() bool {
	p.DropReason = p.parse()
	return p.DropReason == NotDropped
}

func (p *Packet) parse() DropReason {
	b := p.Data
	if len(b) < ipv4HeaderSize {
		return DropShort
	}
	var reason DropReason
	switch b[0] >> 4 {
	case 4:
		reason = p.parse4(b)
	case 6:
		reason = p.parse6(b)
	default:
		return DropVersion
	}
	if reason != NotDropped {
		return reason
	}
	if !validSource(p.Tuple.Src) || p.Tuple.Src == p.Tuple.Dst {
		return DropAddress // source equals destination in a LAND attack
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
		return DropAddress // ::ffff:0:0/96 on the wire would be taken for IPv4 here
	}
	p.L4 = ipv6HeaderSize
	p.Data = b[:total]
	return NotDropped
}

// validSource reports whether a host can send from a: it is not multicast,
// unspecified, broadcast or loopback.
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

func (p *Packet) parseUDP(b []byte) DropReason {
	if len(b) < udpHeaderSize {
		return DropTransport
	}
	if int(binary.BigEndian.Uint16(b[4:])) != len(b) {
		return DropLength
	}
	if reason := p.parsePorts(b); reason != NotDropped {
		return reason
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

func (p *Packet) parsePorts(b []byte) DropReason {
	p.Tuple.SrcPort = binary.BigEndian.Uint16(b)
	p.Tuple.DstPort = binary.BigEndian.Uint16(b[2:])
	if p.Tuple.SrcPort == 0 || p.Tuple.DstPort == 0 {
		return DropPort
	}
	return NotDropped
}

// checksumOK verifies the transport checksum over b, the transport header and
// payload, and the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
func (p *Packet) checksumOK(b []byte) bool {
	if p.Offload.ChecksumValid || p.Offload.NeedsChecksum {
		return true
	}
	// The addresses end the IP header: there are no options or extensions.
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
