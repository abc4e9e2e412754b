package netlab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Protocol numbers (IANA), TCP flags, and types of ICMP.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58

	FlagFIN = 0x01
	FlagSYN = 0x02
	FlagRST = 0x04
	FlagPSH = 0x08
	FlagACK = 0x10

	ICMP4EchoReply   = 0
	ICMP4Unreachable = 3
	ICMP4Echo        = 8
	ICMP6Unreachable = 1
	ICMP6Echo        = 128
	ICMP6EchoReply   = 129

	Code4Port = 3 // of ICMP4Unreachable: port unreachable
	Code6Port = 4 // of ICMP6Unreachable

	// Other types of ICMP errors.
	icmp4Quench    = 4
	icmp4Redirect  = 5
	icmp4Time      = 11
	icmp4Parameter = 12

	icmp6FirstQuery  = 128 // errors are below
	icmp6FirstGroup  = 130 // multicast listeners (RFC 2710) ...
	icmp6LastGroup   = 137 // ... routers, neighbours, redirects (RFC 4861)
	icmp6GroupReport = 143 // multicast listeners, version 2 (RFC 3810)

	// EtherHeader is the size in bytes of an Ethernet header, with the type in
	// its last two bytes.
	EtherHeader = 14
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd

	portsSize = 4  // TCP and UDP begin with them
	flagsAt   = 13 // of TCP's header
)

// A Frame is what was read of a captured frame. Parsing is lenient: whatever
// came back counts, well-formed or not.
type Frame struct {
	Src, Dst           netip.AddrPort // port 0 for protocols without ports
	Proto              uint8
	Flags              uint8 // TCP
	ICMPType, ICMPCode uint8
	Payload            []byte // UDP
	Quoted             *Frame // the packet that an ICMP error is about
}

// ParseFrame reads an Ethernet frame; false: it carries no IP.
func ParseFrame(b []byte) (Frame, bool) {
	if len(b) < EtherHeader {
		return Frame{}, false
	}
	switch binary.BigEndian.Uint16(b[EtherHeader-2:]) {
	case etherIPv4, etherIPv6:
		return parseIP(b[EtherHeader:], true)
	default:
		return Frame{}, false
	}
}

// parseIP reads as much of a packet as there is; an ICMP error quotes only the
// beginning of one, whose own quotation is not read.
func parseIP(b []byte, whole bool) (Frame, bool) {
	var (
		f        Frame
		src, dst netip.Addr
	)
	switch {
	case len(b) >= IPv4Header && b[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		f.Proto = b[9]
		b = b[min(len(b), int(b[0]&0x0f)*4):]
	case len(b) >= IPv6Header && b[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		f.Proto = b[6]
		b = b[IPv6Header:]
	default:
		return Frame{}, false
	}

	var from, to uint16
	switch f.Proto {
	case ProtoTCP, ProtoUDP:
		if len(b) >= portsSize {
			from, to = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
		if f.Proto == ProtoTCP && len(b) > flagsAt {
			f.Flags = b[flagsAt]
		}
		if f.Proto == ProtoUDP && len(b) > UDPHeader {
			f.Payload = append([]byte(nil), b[UDPHeader:]...)
		}
	case ProtoICMP, ProtoICMPv6:
		if len(b) >= 2 {
			f.ICMPType, f.ICMPCode = b[0], b[1]
		}
		if whole && len(b) > ICMPHeader && f.isICMPError() {
			if q, ok := parseIP(b[ICMPHeader:], false); ok {
				f.Quoted = &q
			}
		}
	}
	f.Src, f.Dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return f, true
}

// String describes the packet: its kind, source and destination.
func (f Frame) String() string {
	var kind string
	switch f.Proto {
	case ProtoTCP:
		kind = fmt.Sprintf("TCP flags %#02x", f.Flags)
	case ProtoUDP:
		kind = "UDP"
	case ProtoICMP, ProtoICMPv6:
		kind = fmt.Sprintf("ICMP type %d code %d", f.ICMPType, f.ICMPCode)
	default:
		kind = fmt.Sprintf("protocol %d", f.Proto)
	}
	if f.Quoted != nil {
		return fmt.Sprintf("%s from %v to %v about %v", kind, f.Src, f.Dst, f.Quoted)
	}
	return fmt.Sprintf("%s from %v to %v", kind, f.Src, f.Dst)
}

// isICMPError reports whether an ICMP packet is about another packet.
func (f Frame) isICMPError() bool {
	if f.Proto == ProtoICMPv6 {
		return f.ICMPType < icmp6FirstQuery
	}
	switch f.ICMPType {
	case ICMP4Unreachable, icmp4Quench, icmp4Redirect, icmp4Time, icmp4Parameter:
		return true
	default:
		return false
	}
}

// IsICMP reports whether the packet is ICMP of the type of its family.
func (f Frame) IsICMP(type4, type6 uint8) bool {
	return f.Proto == ProtoICMP && f.ICMPType == type4 || f.Proto == ProtoICMPv6 && f.ICMPType == type6
}

// IsPortUnreachable reports whether the packet is ICMP Port Unreachable.
func (f Frame) IsPortUnreachable() bool {
	return f.Proto == ProtoICMP && f.ICMPType == ICMP4Unreachable && f.ICMPCode == Code4Port ||
		f.Proto == ProtoICMPv6 && f.ICMPType == ICMP6Unreachable && f.ICMPCode == Code6Port
}

// HasFlags reports whether a TCP packet has all of the flags.
func (f Frame) HasFlags(flags uint8) bool { return f.Flags&flags == flags }

// IsHousekeeping reports whether the packet is IPv6's maintenance of a link
// (neighbours, routers, multicast groups), which says nothing about services.
func (f Frame) IsHousekeeping() bool {
	return f.Proto == ProtoICMPv6 &&
		(f.ICMPType >= icmp6FirstGroup && f.ICMPType <= icmp6LastGroup || f.ICMPType == icmp6GroupReport)
}

// IsAnswer reports whether the packet tells a scanner with these addresses
// something: it comes from a protected address, to anywhere, or from any machine
// to the scanner, such as an ICMP error of the gateway's kernel, and is not
// housekeeping.
func (f Frame) IsAnswer(scanner ...netip.Addr) bool {
	toScanner := slices.Contains(scanner, f.Dst.Addr()) && !f.IsHousekeeping()
	return IsProtected(f.Src.Addr()) || toScanner
}

// IsRedirect reports whether the packet is an ICMPv6 Redirect (RFC 4861).
func (f Frame) IsRedirect() bool { return f.Proto == ProtoICMPv6 && f.ICMPType == icmp6LastGroup }
