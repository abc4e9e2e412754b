package packet

import (
	"fmt"
	"strings"
)

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols that Parse decodes.
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

// A Packet is one IP packet and the headers that Parse decoded from it.
type Packet struct {
	// Data is the packet from the IP header to its last byte. It is borrowed
	// from what filled the Packet; a Device lends it until its next Read.
	Data    []byte
	Offload Offload

	// The fields below are set by Parse.

	// DropReason says why the packet is rejected. Unless it is NotDropped, no
	// other field is valid, except for those of a Fragment.
	DropReason DropReason
	Version    uint8    // 4 or 6
	Proto      Protocol // the transport protocol
	Tuple      Tuple    // addresses, and ports if the protocol has them
	L4         int      // offset of the transport header in Data
	Payload    int      // offset of the transport payload in Data

	// TCP only.
	Flags    uint8
	Window   uint16
	Seq, Ack uint32

	// ICMP only.
	ICMPType, ICMPCode uint8

	// DropFragment and DropTinyFragment only.
	Fragment Fragment
}

// flagNames are the TCP flags that Transport shows, in its order.
var flagNames = []struct {
	bit  uint8
	name string
}{{SYN, " SYN"}, {FIN, " FIN"}, {RST, " RST"}, {ACK, " ACK"}}

// Transport returns the name of the transport protocol for people to read, with
// the flags of TCP and the type and code of ICMP.
func (p *Packet) Transport() string {
	switch p.Proto {
	case TCP:
		var b strings.Builder
		b.WriteString("TCP")
		for _, f := range flagNames {
			if p.Flags&f.bit != 0 {
				b.WriteString(f.name)
			}
		}
		return b.String()
	case UDP:
		return "UDP"
	case ICMP:
		return fmt.Sprintf("ICMP %d/%d", p.ICMPType, p.ICMPCode)
	case ICMPv6:
		return fmt.Sprintf("ICMPv6 %d/%d", p.ICMPType, p.ICMPCode)
	default:
		return fmt.Sprintf("protocol %d", p.Proto)
	}
}
