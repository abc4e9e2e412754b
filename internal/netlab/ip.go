package netlab

import (
	"encoding/binary"
	"net/netip"
)

// Sizes of headers in bytes, without options.
const (
	IPv4Header = 20
	IPv6Header = 40
	TCPHeader  = 20
	UDPHeader  = 8
	ICMPHeader = 8

	hopLimit = 64 // what kernels begin with
)

// AppendIP appends an IP packet of the family of its addresses around a payload.
func AppendIP(b []byte, src, dst netip.Addr, proto byte, payload []byte) []byte {
	return append(AppendIPHeader(b, src, dst, proto, len(payload)), payload...)
}

// AppendIPHeader appends an IP header for a payload of size bytes, with its
// checksum.
func AppendIPHeader(b []byte, src, dst netip.Addr, proto byte, size int) []byte {
	if dst.Is4() {
		h := make([]byte, IPv4Header)
		h[0], h[8], h[9] = 4<<4|IPv4Header/4, hopLimit, proto
		binary.BigEndian.PutUint16(h[2:], uint16(IPv4Header+size))
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], Checksum(netip.Addr{}, netip.Addr{}, 0, h))
		return append(b, h...)
	}
	h := make([]byte, IPv6Header)
	h[0], h[6], h[7] = 6<<4, proto, hopLimit
	binary.BigEndian.PutUint16(h[4:], uint16(size))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(b, h...)
}

// Checksum returns the Internet checksum (RFC 1071) of a message whose own field
// is 0, with the pseudo-header of the addresses if they are valid (RFC 9293,
// 3.1; RFC 8200, 8.1). It allocates nothing.
func Checksum(src, dst netip.Addr, proto byte, message []byte) uint16 {
	var sum uint32
	if src.IsValid() {
		sum = sumAddr(sumAddr(0, src), dst) + uint32(proto) + uint32(len(message))
	}
	sum = sumBytes(sum, message)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func sumAddr(sum uint32, a netip.Addr) uint32 {
	if a.Is4() {
		b := a.As4()
		return sumBytes(sum, b[:])
	}
	b := a.As16()
	return sumBytes(sum, b[:])
}

// sumBytes adds bytes in ones' complement, without the final carry.
func sumBytes(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}
