package client

import (
	"encoding/binary"
	"net/netip"

	"github.com/knockgw/knockgw/protocol"
)

// Sizes in bytes, and the constant fields of a SYN knock.
const (
	ipv4Header = 20
	ipv6Header = 40
	tcpHeader  = 32 // with the options

	protocolTCP = 6
	hopLimit    = 64
	flagSYN     = 0x02

	optionNOP            = 1
	optionTimestamps     = 8
	optionTimestampsSize = 10
)

// synPacket is a SYN knock. Both addresses have the same IP version, which is
// that of the packet (docs/wire-formats.md, TCP SYN knock).
//
//	IPv4  20 bytes  DF clear, TTL 64, a random id; the checksum
//	IPv6  40 bytes  hop limit 64
//	TCP   32 bytes  SYN; NOP, NOP, Timestamps(TSval, 0); no MSS; the checksum
type synPacket struct {
	src, dst netip.AddrPort
	id       uint16 // IPv4 only
	fields   protocol.SYNFields
}

// append appends the packet, IP header first, to b.
func (p *synPacket) append(b []byte) []byte {
	if p.dst.Addr().Is4() {
		return p.appendTCP(p.appendIPv4(b))
	}
	return p.appendTCP(p.appendIPv6(b))
}

func (p *synPacket) appendIPv4(b []byte) []byte {
	start := len(b)
	b = append(b, 4<<4|ipv4Header/4, 0) // no type of service
	b = binary.BigEndian.AppendUint16(b, ipv4Header+tcpHeader)
	b = binary.BigEndian.AppendUint16(b, p.id)
	b = append(b, 0, 0) // no flag, no offset
	b = append(b, hopLimit, protocolTCP)
	b = append(b, 0, 0) // the checksum
	b = append(b, p.src.Addr().AsSlice()...)
	b = append(b, p.dst.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[start+10:], ^fold(sum(0, b[start:])))
	return b
}

func (p *synPacket) appendIPv6(b []byte) []byte {
	b = append(b, 6<<4, 0, 0, 0) // no traffic class, no flow label
	b = binary.BigEndian.AppendUint16(b, tcpHeader)
	b = append(b, protocolTCP, hopLimit)
	b = append(b, p.src.Addr().AsSlice()...)
	return append(b, p.dst.Addr().AsSlice()...)
}

func (p *synPacket) appendTCP(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, p.src.Port())
	b = binary.BigEndian.AppendUint16(b, p.dst.Port())
	b = binary.BigEndian.AppendUint32(b, p.fields.Seq)
	b = append(b, 0, 0, 0, 0) // no acknowledgment
	b = append(b, tcpHeader/4<<4, flagSYN)
	b = binary.BigEndian.AppendUint16(b, p.fields.Window)
	b = append(b, 0, 0, 0, 0) // the checksum; no urgent pointer
	b = append(b, optionNOP, optionNOP, optionTimestamps, optionTimestampsSize)
	b = binary.BigEndian.AppendUint32(b, p.fields.TSVal)
	b = append(b, 0, 0, 0, 0) // no echo reply

	// In both versions, the sum of the pseudo header is that of the addresses,
	// the length and the protocol.
	pseudo := sum(sum(tcpHeader+protocolTCP, p.src.Addr().AsSlice()), p.dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[start+16:], ^fold(sum(pseudo, b[start:])))
	return b
}

// sum adds b, of even length, to a partial internet checksum (RFC 1071). It
// cannot overflow for packets of some hundred bytes.
func sum(total uint32, b []byte) uint32 {
	for i := 0; i < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return total
}

// fold adds the carries to a partial checksum.
func fold(total uint32) uint16 {
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return uint16(total)
}
