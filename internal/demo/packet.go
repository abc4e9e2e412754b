package demo

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Protocol numbers, flags and types, as far as the scanner uses them (IANA).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10

	icmp4EchoReply   = 0
	icmp4Unreachable = 3
	icmp4Quench      = 4
	icmp4Redirect    = 5
	icmp4Echo        = 8
	icmp4Time        = 11
	icmp4Parameter   = 12
	code4Port        = 3 // of icmp4Unreachable
	icmp6Unreachable = 1
	code6Port        = 4 // of icmp6Unreachable
	icmp6FirstQuery  = 128
	icmp6Echo        = 128
	icmp6EchoReply   = 129
	icmp6FirstGroup  = 130 // multicast listeners (RFC 2710) ...
	icmp6LastGroup   = 137 // ... routers, neighbours, redirects (RFC 4861)
	icmp6GroupReport = 143 // multicast listeners, version 2 (RFC 3810)

	etherHeader = 14 // bytes; the type is in the last two
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd

	ipv4Header = 20 // bytes, without options
	ipv6Header = 40
	tcpHeader  = 20
	udpHeader  = 8
	icmpHeader = 8
	portsSize  = 4  // TCP and UDP begin with them
	flagsAt    = 13 // of TCP's header

	hopLimit  = 64   // what kernels begin with
	dontBreak = 0x40 // IPv4's DF, in the first byte of flags and offset
)

// A packet is what a capture read of a frame. It is lenient: whatever came back
// counts, well-formed or not.
type frame struct {
	src, dst           netip.AddrPort // port 0 where the protocol has none
	proto              uint8
	flags              uint8 // TCP
	icmpType, icmpCode uint8
	payload            []byte // UDP
	quoted             *frame // the packet that an ICMP error is about
}

// parseFrame reads an Ethernet frame; false: it carries no IP.
func parseFrame(b []byte) (frame, bool) {
	if len(b) < etherHeader {
		return frame{}, false
	}
	switch binary.BigEndian.Uint16(b[etherHeader-2:]) {
	case etherIPv4, etherIPv6:
		return parseIP(b[etherHeader:], true)
	default:
		return frame{}, false
	}
}

// parseIP reads as much of a packet as there is; an ICMP error quotes only the
// beginning of one, which itself is not asked for what it quotes.
func parseIP(b []byte, whole bool) (frame, bool) {
	var (
		p        frame
		src, dst netip.Addr
	)
	switch {
	case len(b) >= ipv4Header && b[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		p.proto = b[9]
		b = b[min(len(b), int(b[0]&0x0f)*4):]
	case len(b) >= ipv6Header && b[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		p.proto = b[6]
		b = b[ipv6Header:]
	default:
		return frame{}, false
	}
	var from, to uint16
	switch p.proto {
	case protoTCP, protoUDP:
		if len(b) >= portsSize {
			from, to = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
		if p.proto == protoTCP && len(b) > flagsAt {
			p.flags = b[flagsAt]
		}
		if p.proto == protoUDP && len(b) > udpHeader {
			p.payload = append([]byte(nil), b[udpHeader:]...)
		}
	case protoICMP, protoICMPv6:
		if len(b) >= 2 {
			p.icmpType, p.icmpCode = b[0], b[1]
		}
		if whole && len(b) > icmpHeader && p.icmpError() {
			if q, ok := parseIP(b[icmpHeader:], false); ok {
				p.quoted = &q
			}
		}
	}
	p.src, p.dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return p, true
}

// String tells what kind of packet goes from whom to whom.
func (p frame) String() string {
	var kind string
	switch p.proto {
	case protoTCP:
		kind = fmt.Sprintf("TCP flags %#02x", p.flags)
	case protoUDP:
		kind = "UDP"
	case protoICMP, protoICMPv6:
		kind = fmt.Sprintf("ICMP type %d code %d", p.icmpType, p.icmpCode)
	default:
		kind = fmt.Sprintf("protocol %d", p.proto)
	}
	if p.quoted != nil {
		return fmt.Sprintf("%s from %v to %v about %v", kind, p.src, p.dst, p.quoted)
	}
	return fmt.Sprintf("%s from %v to %v", kind, p.src, p.dst)
}

// icmpError tells whether an ICMP packet reports an error about another packet.
func (p frame) icmpError() bool {
	if p.proto == protoICMPv6 {
		return p.icmpType < icmp6FirstQuery
	}
	switch p.icmpType {
	case icmp4Unreachable, icmp4Quench, icmp4Redirect, icmp4Time, icmp4Parameter:
		return true
	default:
		return false
	}
}

// icmpIs tells whether the packet is ICMP of the type of its family.
func (p frame) icmpIs(type4, type6 uint8) bool {
	return p.proto == protoICMP && p.icmpType == type4 || p.proto == protoICMPv6 && p.icmpType == type6
}

// portUnreachable tells whether an ICMP error says that nobody listens.
func (p frame) portUnreachable() bool {
	return p.proto == protoICMP && p.icmpType == icmp4Unreachable && p.icmpCode == code4Port ||
		p.proto == protoICMPv6 && p.icmpType == icmp6Unreachable && p.icmpCode == code6Port
}

// has tells whether a TCP packet has all of the flags.
func (p frame) has(flags uint8) bool { return p.flags&flags == flags }

// housekeeping tells whether the packet is IPv6's own talk on a link, about
// neighbours, routers and groups, which says nothing about what is behind it.
func (p frame) housekeeping() bool {
	return p.proto == protoICMPv6 &&
		(p.icmpType >= icmp6FirstGroup && p.icmpType <= icmp6LastGroup || p.icmpType == icmp6GroupReport)
}

// build makes the probe as a whole IP packet from src. The kernel fills in the
// checksum of an IPv4 header. connectScan's packets are the kernel's own.
func (p probe) build(src netip.Addr) []byte {
	b := make([]byte, 0, ipv6Header+tcpHeader)
	proto, transport := p.transport()
	switch {
	case p.addr.Is4():
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(ipv4Header+len(transport)))
		b = append(b, 0, 0, dontBreak, 0, hopLimit, proto, 0, 0)
	default:
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(transport)))
		b = append(b, proto, hopLimit)
	}
	b = append(append(b, src.AsSlice()...), p.addr.AsSlice()...)
	sum := foldedSum(transport, 0)
	if proto != protoICMP { // all others cover the addresses too (RFC 9293, 3.1; RFC 8200, 8.1)
		sum = foldedSum(src.AsSlice(), foldedSum(p.addr.AsSlice(), sum))
		sum = foldedSum([]byte{0, proto, byte(len(transport) >> 8), byte(len(transport))}, sum)
	}
	if sum = ^sum; sum == 0 && proto == protoUDP {
		sum = 0xffff // 0 says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(transport[checksumAt(proto):], sum)
	return append(b, transport...)
}

// transport makes the probe's transport header, and what follows, without its checksum.
func (p probe) transport() (proto uint8, b []byte) {
	switch p.technique {
	case echoScan:
		b = make([]byte, icmpHeader)
		if p.addr.Is4() {
			b[0] = icmp4Echo
			return protoICMP, b
		}
		b[0] = icmp6Echo
		return protoICMPv6, b
	case udpScan:
		const payload = "anybody there?"
		b = make([]byte, udpHeader, udpHeader+len(payload))
		binary.BigEndian.PutUint16(b[4:], udpHeader+uint16(len(payload)))
		b = append(b, payload...)
		proto = protoUDP
	default:
		b = make([]byte, tcpHeader)
		binary.BigEndian.PutUint32(b[4:], 1) // sequence number
		b[12] = tcpHeader / 4 << 4           // its length in words
		b[flagsAt] = p.technique.flags()
		binary.BigEndian.PutUint16(b[14:], 1024) // window
		proto = protoTCP
	}
	binary.BigEndian.PutUint16(b, p.technique.sourcePort())
	binary.BigEndian.PutUint16(b[2:], p.port)
	return proto, b
}

// flags are what a technique's TCP probes have set.
func (t technique) flags() uint8 {
	switch t {
	case synScan:
		return flagSYN
	case ackScan:
		return flagACK
	case finScan:
		return flagFIN
	default:
		return 0
	}
}

// checksumAt is where a transport header has its checksum.
func checksumAt(proto uint8) int {
	switch proto {
	case protoTCP:
		return 16
	case protoUDP:
		return 6
	default:
		return 2
	}
}

// foldedSum adds b, which begins at an even offset, to a sum in ones' complement (RFC 1071).
func foldedSum(b []byte, sum uint16) uint16 {
	total := uint32(sum)
	for ; len(b) >= 2; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total>>16 != 0 {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
