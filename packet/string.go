package packet

import (
	"fmt"
	"strings"
)

// flagNames are the TCP flags that Transport shows, in its order.
var flagNames = []struct {
	bit  uint8
	name string
}{{SYN, " SYN"}, {FIN, " FIN"}, {RST, " RST"}, {ACK, " ACK"}}

// Transport names the packet's transport protocol in words for people, with the
// flags of TCP and the type and code of ICMP.
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
