package packet

import "encoding/binary"

// The numbers of ICMP errors: RFC 792 and, from 1 to 4, RFC 4443, 2.1.
const (
	icmpUnreachable      = 3
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12

	icmpFragmentationNeeded = 4 // code of icmpUnreachable

	icmpv6FirstError   = 1
	icmpv6PacketTooBig = 2
	icmpv6LastError    = 4
)

// originalBytes is how much of the original TCP header an ICMP error returns at
// least, in bytes (RFC 792): the ports and the sequence number.
const originalBytes = 8

// OriginalDatagram decodes the packet that an ICMP error returns to its sender
// (RFC 792, "original data datagram"). It returns the tuple in the direction in
// which that packet was sent, and its TCP sequence number. ok is false unless p
// is an ICMP error (RFC 792, RFC 4443) about an unfragmented TCP segment of
// which at least 8 bytes were returned.
func (p *Packet) OriginalDatagram() (t Tuple, seq uint32, ok bool) {
	b := p.Data[p.Payload:]
	switch p.Proto {
	case ICMP:
		if p.ICMPType != icmpUnreachable && p.ICMPType != icmpTimeExceeded && p.ICMPType != icmpParameterProblem {
			return t, 0, false
		}
		if len(b) < ipv4HeaderSize || b[0]>>4 != 4 || Protocol(b[9]) != TCP {
			return t, 0, false
		}
		headerLen := int(b[0]&15) * 4
		if headerLen < ipv4HeaderSize || len(b) < headerLen+originalBytes || binary.BigEndian.Uint16(b[6:])&ipv4OffsetMask != 0 {
			return t, 0, false
		}
		t.Src, t.Dst = addr4(b[12:16]), addr4(b[16:20])
		b = b[headerLen:]
	case ICMPv6:
		if p.ICMPType < icmpv6FirstError || p.ICMPType > icmpv6LastError {
			return t, 0, false
		}
		if len(b) < ipv6HeaderSize+originalBytes || b[0]>>4 != 6 || Protocol(b[6]) != TCP {
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

// PathMTU returns the path MTU that an ICMP error reports, in bytes: that of
// "fragmentation needed" (RFC 1191, 4; 0 from a router that does not know it) or
// "packet too big" (RFC 4443, 3.2). It returns -1 if p is neither.
func (p *Packet) PathMTU() int {
	switch {
	case p.Proto == ICMP && p.ICMPType == icmpUnreachable && p.ICMPCode == icmpFragmentationNeeded:
		return int(binary.BigEndian.Uint16(p.Data[p.L4+6:]))
	case p.Proto == ICMPv6 && p.ICMPType == icmpv6PacketTooBig:
		return int(min(binary.BigEndian.Uint32(p.Data[p.L4+4:]), MaxPacket))
	default:
		return -1
	}
}
