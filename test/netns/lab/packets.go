//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/internal/netlab"
)

// A Packet is one captured frame with its layers parsed. What is not IP has no
// addresses.
type Packet struct {
	gopacket.Packet
	Time     time.Time
	Src, Dst netip.Addr

	frame netlab.Frame // of IP
}

func parsePacket(at time.Time, frame []byte) Packet {
	// Not lazy and with its own copy: packets are read by several goroutines of
	// a test.
	p := Packet{Time: at, Packet: gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)}
	p.frame, _ = netlab.ParseFrame(frame)
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		p.Src, p.Dst = addr(ip.SrcIP), addr(ip.DstIP)
	case *layers.IPv6:
		p.Src, p.Dst = addr(ip.SrcIP), addr(ip.DstIP)
	}
	return p
}

func addr(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// TCP is the packet's TCP header, or nil.
func (p Packet) TCP() *layers.TCP {
	t, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	return t
}

// UDP is the packet's UDP header, or nil.
func (p Packet) UDP() *layers.UDP {
	u, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	return u
}

// Answers is what a scanner of the protected prefixes, at the given addresses
// of a host, was told: every packet from the protected prefixes, to any address,
// and everything that any other machine sent the scanner, such as an ICMP error
// of the gateway's kernel, except IPv6's housekeeping.
func Answers(packets []Packet, scanner ...netip.Addr) []Packet {
	var answers []Packet
	for _, p := range packets {
		if !p.Src.IsValid() {
			continue
		}
		if p.frame.IsAnswer(scanner...) || p.frame.IsRedirect() && slices.Contains(scanner, p.Dst) {
			answers = append(answers, p)
		}
	}
	return answers
}

// Silent fails the test if the host got any answer from the protected prefixes,
// or about them, in a capture of its link.
func (h *Host) Silent(packets []Packet) {
	h.tb.Helper()
	const shown = 5
	answers := Answers(packets, h.Addr4, h.Addr6, h.Other4, h.Other6)
	for i, p := range answers {
		if i == shown {
			h.tb.Errorf("%s: and %d more", h.Name, len(answers)-shown)
			break
		}
		h.tb.Errorf("%s was answered:\n%v", h.Name, p)
	}
}

// RetransmittedSYNs counts the SYNs that a captured client sent again for want
// of an answer.
func RetransmittedSYNs(packets []Packet) int {
	type syn struct {
		src, dst         netip.Addr
		srcPort, dstPort layers.TCPPort
		seq              uint32
	}
	seen := make(map[syn]bool)
	again := 0
	for _, p := range packets {
		t := p.TCP()
		if t == nil || !t.SYN || t.ACK {
			continue
		}
		s := syn{p.Src, p.Dst, t.SrcPort, t.DstPort, t.Seq}
		if seen[s] {
			again++
		}
		seen[s] = true
	}
	return again
}

// Sent counts the packets of a source to a prefix: a claim of silence needs
// probes.
func Sent(packets []Packet, src netip.Addr, to netip.Prefix) int {
	n := 0
	for _, p := range packets {
		if p.Src == src && to.Contains(p.Dst) {
			n++
		}
	}
	return n
}

// String is the packet in one line per layer.
func (p Packet) String() string {
	return fmt.Sprintf("%s %s", p.Time.Format(time.StampMicro), p.Packet.String())
}
