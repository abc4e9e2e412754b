package packet

import "encoding/binary"

// A Fragment is what Parse decodes from the headers of a fragment. Parse also
// sets the Version and Proto of the packet, the addresses of its Tuple, and, in
// the first fragment of a TCP segment, the ports. They are 0 in other
// fragments.
//
// It is the zero Fragment, and the other fields are not valid, if the packet
// cannot be reassembled: it has IPv4 options, IPv6 addresses that would be taken
// for IPv4 here, or a truncated fragment header, or it is an atomic fragment of
// IPv6, which is a whole packet (RFC 6946). A TCP sender has no reason to send
// atomic fragments since RFC 8021.
type Fragment struct {
	ID     uint32 // identification, common to all fragments of a packet; 16 bits in IPv4
	Offset int    // of this fragment in the payload of the whole packet, in bytes
	More   bool   // more fragments follow; false in the last one
	// Payload is the offset in Data of this fragment's part of the payload,
	// which extends to the end of Data.
	Payload int
}

// Reassemblable reports whether p, after Parse, is a fragment that a
// Reassembler accepts. If so, its Fragment is valid, and its Tuple identifies
// the packet. Only TCP is reassembled, because the gateway forwards nothing
// else.
func (p *Packet) Reassemblable() bool {
	return (p.DropReason == DropFragment || p.DropReason == DropTinyFragment) &&
		p.Fragment.Payload > 0 && p.Proto == TCP
}

// The flags and fragment offset field of IPv4 (RFC 791, 3.1). The offset is in
// units of 8 bytes.
const (
	ipv4MoreFragments = 0x2000
	ipv4OffsetMask    = 0x1fff
)

// IPv6's fragment header (RFC 8200, 4.5):
//
//	u8 next header || u8 reserved || u13 offset, u2 reserved, u1 more || u32 identification
//
// The offset is in units of 8 bytes, at a position where it need not be shifted.
const (
	ipv6FragmentHeader     = 44 // next header number
	ipv6FragmentHeaderSize = 8
	ipv6MoreFragments      = 1
	ipv6OffsetMask         = 0xfff8
)

// fragmentUnit is the unit of the length of all fragments but the last, in
// bytes.
const fragmentUnit = 8

// parseFragment4 decodes the fragment b, trimmed to the length in its header.
func (p *Packet) parseFragment4(b []byte, headerLen int) DropReason {
	p.Fragment = Fragment{}
	if headerLen > ipv4HeaderSize {
		return DropFragment
	}
	p.Data = b
	p.Version = 4
	p.Proto = Protocol(b[9])
	p.Tuple = Tuple{Src: addr4(b[12:16]), Dst: addr4(b[16:20])}
	flags := binary.BigEndian.Uint16(b[6:])
	return p.parseFragment(Fragment{
		ID:      uint32(binary.BigEndian.Uint16(b[4:])),
		Offset:  int(flags&ipv4OffsetMask) * fragmentUnit,
		More:    flags&ipv4MoreFragments != 0,
		Payload: headerLen,
	})
}

// parseFragment6 decodes the packet b, trimmed to the length in its header,
// whose first extension header is a fragment header.
func (p *Packet) parseFragment6(b []byte) DropReason {
	p.Fragment = Fragment{}
	const payload = ipv6HeaderSize + ipv6FragmentHeaderSize
	if len(b) < payload {
		return DropFragment
	}
	h := b[ipv6HeaderSize:]
	flags := binary.BigEndian.Uint16(h[2:])
	f := Fragment{
		ID:      binary.BigEndian.Uint32(h[4:]),
		Offset:  int(flags & ipv6OffsetMask),
		More:    flags&ipv6MoreFragments != 0,
		Payload: payload,
	}

	t := Tuple{Src: Addr(b[8:24]), Dst: Addr(b[24:40])}
	if f.Offset == 0 && !f.More || t.Src.Is4() || t.Dst.Is4() {
		return DropFragment
	}
	p.Data = b
	p.Version = 6
	p.Proto = Protocol(h[0])
	p.Tuple = t
	return p.parseFragment(f)
}

// parseFragment checks the first fragment of a TCP segment. Ports and flags in
// different fragments evade filters that inspect only the first (RFC 1858), and
// no link is so narrow that it has to split a TCP header.
func (p *Packet) parseFragment(f Fragment) DropReason {
	p.Fragment = f
	if p.Proto != TCP || f.Offset > 0 {
		return DropFragment
	}
	b := p.Data[f.Payload:]
	if len(b) < tcpHeaderSize {
		return DropTinyFragment
	}
	headerLen := int(b[12]>>4) * 4
	if headerLen < tcpHeaderSize || headerLen > len(b) {
		return DropTinyFragment
	}
	p.Tuple.SrcPort = binary.BigEndian.Uint16(b)
	p.Tuple.DstPort = binary.BigEndian.Uint16(b[2:])
	return DropFragment
}

// validateFragment checks a fragment by itself, without the others of its
// packet.
func (p *Packet) validateFragment() DropReason {
	f := &p.Fragment
	size := len(p.Data) - f.Payload
	header := ipv4HeaderSize
	if p.Version == 6 {
		header = ipv6HeaderSize
	}
	switch {
	case p.DropReason == DropTinyFragment, f.Offset > 0 && f.Offset < tcpHeaderSize:
		return DropTinyFragment
	case size == 0, f.More && size%fragmentUnit != 0, header+f.Offset+size > MaxPacket:
		return DropFragmentLength
	default:
		return NotDropped
	}
}
