package demo

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/packet"
)

// asFrame puts a packet behind an Ethernet header.
func asFrame(b []byte) []byte {
	frame := make([]byte, netlab.EtherHeader, netlab.EtherHeader+len(b))
	if b[0]>>4 == 4 {
		frame[12], frame[13] = 0x08, 0x00
	} else {
		frame[12], frame[13] = 0x86, 0xdd
	}
	return append(frame, b...)
}

func TestProbeIsWellFormedAndParsesBack(t *testing.T) {
	for _, a := range []struct{ from, to netip.Addr }{
		{netip.MustParseAddr("10.1.2.2"), netip.MustParseAddr("10.77.0.1")},
		{netip.MustParseAddr("fd01:2::2"), netip.MustParseAddr("fd77::1")},
	} {
		for technique := synScan; technique < techniqueCount; technique++ {
			p := probe{technique, a.to, 443}
			if technique == echoScan {
				p.port = 0
			}
			b := p.packet(a.from)
			// The gateway's parser shares no code with the scanner, and
			// verifies checksums.
			judge := packet.Packet{Data: b}
			if !judge.Parse() {
				t.Errorf("%s to %v: the gateway would call it malformed: %v", technique, a.to, judge.DropReason)
			}
			read, ok := netlab.ParseFrame(asFrame(b))
			if !ok {
				t.Fatalf("%s to %v does not parse", technique, a.to)
			}
			if got, ok := asProbe(read); !ok || got != p {
				t.Errorf("%s to %v reads back as %v", technique, a.to, got)
			}
			if read.Src.Addr() != a.from {
				t.Errorf("%s to %v comes from %v", technique, a.to, read.Src)
			}
		}
	}
}

func TestParseFrameToleratesTruncation(t *testing.T) {
	for _, a := range []string{"10.77.0.1", "fd77::1"} {
		for technique := synScan; technique < techniqueCount; technique++ {
			to := netip.MustParseAddr(a)
			frame := asFrame(icmpError(probe{technique, to, 1}.packet(to), portUnreachable))
			for n := range frame {
				p, _ := netlab.ParseFrame(frame[:n])
				match(p)
			}
		}
	}
}

// icmpError quotes a packet, whose addresses it takes for its own.
func icmpError(quoted []byte, a answer) []byte {
	v4 := quoted[0]>>4 == 4
	header := netlab.IPv6Header
	if v4 {
		header = netlab.IPv4Header
	}
	b := append([]byte(nil), quoted[:header]...)
	body := make([]byte, netlab.ICMPHeader)
	switch {
	case v4:
		b[9], body[0], body[1] = netlab.ProtoICMP, netlab.ICMP4Unreachable, netlab.Code4Port
	default:
		b[6], body[0], body[1] = netlab.ProtoICMPv6, netlab.ICMP6Unreachable, netlab.Code6Port
	}
	if a == otherError {
		body[1] = 1 // host unreachable; administratively prohibited
	}
	return append(append(b, body...), quoted...)
}
