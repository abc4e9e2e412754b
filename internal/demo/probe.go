package demo

import (
	"encoding/binary"
	"net/netip"

	"github.com/knockgw/knockgw/internal/netlab"
)

// packet makes the probe as a whole IP packet from src. The packets of
// connectScan are made by the kernel.
func (p probe) packet(src netip.Addr) []byte {
	proto, transport := p.transport()
	pseudo := src
	if proto == netlab.ProtoICMP { // its checksum does not cover the addresses (RFC 792)
		pseudo = netip.Addr{}
	}
	sum := netlab.Checksum(pseudo, p.addr, proto, transport)
	if sum == 0 && proto == netlab.ProtoUDP {
		sum = 0xffff // 0 says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(transport[checksumOffset(proto):], sum)
	return netlab.AppendIP(nil, src, p.addr, proto, transport)
}

// transport makes the probe's transport header and payload, without the
// checksum.
func (p probe) transport() (proto uint8, b []byte) {
	switch p.technique {
	case echoScan:
		b = make([]byte, netlab.ICMPHeader)
		if p.addr.Is4() {
			b[0] = netlab.ICMP4Echo
			return netlab.ProtoICMP, b
		}
		b[0] = netlab.ICMP6Echo
		return netlab.ProtoICMPv6, b
	case udpScan:
		const payload = "is there a service?"
		b = make([]byte, netlab.UDPHeader, netlab.UDPHeader+len(payload))
		binary.BigEndian.PutUint16(b[4:], netlab.UDPHeader+uint16(len(payload)))
		b = append(b, payload...)
		proto = netlab.ProtoUDP
	default:
		b = make([]byte, netlab.TCPHeader)
		binary.BigEndian.PutUint32(b[4:], 1) // sequence number
		b[12] = netlab.TCPHeader / 4 << 4    // its length in words
		b[13] = p.technique.flags()
		binary.BigEndian.PutUint16(b[14:], 1024) // window
		proto = netlab.ProtoTCP
	}

	binary.BigEndian.PutUint16(b, p.technique.sourcePort())
	binary.BigEndian.PutUint16(b[2:], p.port)
	return proto, b
}

// flags returns the flags of a technique's TCP probes.
func (t technique) flags() uint8 {
	switch t {
	case synScan:
		return netlab.FlagSYN
	case ackScan:
		return netlab.FlagACK
	case finScan:
		return netlab.FlagFIN
	default:
		return 0
	}
}

// checksumOffset returns where a transport header has its checksum.
func checksumOffset(proto uint8) int {
	switch proto {
	case netlab.ProtoTCP:
		return 16
	case netlab.ProtoUDP:
		return 6
	default:
		return 2
	}
}
