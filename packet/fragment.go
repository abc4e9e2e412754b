package packet

import "encoding/binary"

// A Fragment is what Parse reads from a fragment's headers. Besides it, Parse
// sets the packet's Version, Proto and the addresses of its Tuple, and in TCP's
// first fragment the ports, which are 0 in every other one.
//
// It is the zero Fragment, and none of the rest counts, where no reassembly is
// to be had: IPv4 options, IPv6 addresses that would pass for IPv4 here, a
// fragment header that is cut short, and IPv6's atomic fragments, which are all
// of their packet (RFC 6946). Nobody who talks TCP has cause to send the last:
// RFC 8021 took the only one away.
type Fragment struct {
	ID     uint32 // what the fragments of one packet have in common; 16 bits of it in IPv4
	Offset int    // bytes of the whole packet's payload that precede this fragment's
	More   bool   // others follow; false in the last one
	// Payload is where the fragment's part of the whole packet's payload begins
	// in Data. It ends where Data ends.
	Payload int
}

// Reassemblable tells whether p, after its Parse, is a fragment for a
// Reassembler: then its Fragment counts, and its Tuple says whose it is. Only
// TCP is worth it; what else needs reassembly is not the gateway's business.
func (p *Packet) Reassemblable() bool {
	return (p.DropReason == DropFragment || p.DropReason == DropTinyFragment) &&
		p.Fragment.Payload > 0 && p.Proto == TCP
}

// The second half of IPv4's flags and fragment offset (RFC 791, 3.1); the
// offset counts units of 8 bytes.
const (
	ipv4MoreFragments = 0x2000
	ipv4OffsetMask    = 0x1fff
)

// IPv6's fragment header (RFC 8200, 4.5):
//
//	u8 next header || u8 reserved || u13 offset, u2 reserved, u1 more || u32 identification
//
// The offset counts units of 8 bytes and stands where it need not be shifted.
const (
	ipv6FragmentHeader     = 44 // its number
	ipv6FragmentHeaderSize = 8
	ipv6MoreFragments      = 1
	ipv6OffsetMask         = 0xfff8
)

// fragmentUnit is what the length of every fragment but the last is a multiple of, in bytes.
const fragmentUnit = 8

// parseFragment4 reads the fragment b, cut to the length that its header gives.
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

// parseFragment6 reads the packet b, cut to the length that its header gives,
// whose first extension header is that of a fragment.
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

// parseFragment looks into TCP's first fragment. Ports and flags that stand in
// different fragments are a way around whoever looks at the first one only (RFC
// 1858); no link is so narrow that it must cut a TCP header in two.
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

// validateFragment says what is wrong with a fragment, whatever else is there of its packet.
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
