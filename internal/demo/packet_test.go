package demo

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/packet"
)

// asFrame puts a packet behind an Ethernet header.
func asFrame(b []byte) []byte {
	frame := make([]byte, etherHeader, etherHeader+len(b))
	if b[0]>>4 == 4 {
		frame[12], frame[13] = 0x08, 0x00
	} else {
		frame[12], frame[13] = 0x86, 0xdd
	}
	return append(frame, b...)
}

// sum4 fills in an IPv4 header's checksum, as the kernel does.
func sum4(b []byte) []byte {
	if b[0]>>4 == 4 {
		b[10], b[11] = 0, 0
		sum := ^foldedSum(b[:ipv4Header], 0)
		b[10], b[11] = byte(sum>>8), byte(sum)
	}
	return b
}

func TestProbeIsWellFormedAndParsesBack(t *testing.T) {
	for _, a := range []struct{ from, to netip.Addr }{
		{netip.MustParseAddr("10.1.2.2"), netip.MustParseAddr("10.77.0.1")},
		{netip.MustParseAddr("fd00:2::2"), netip.MustParseAddr("fd77::1")},
	} {
		for technique := synScan; technique < techniqueCount; technique++ {
			p := probe{technique, a.to, 443}
			if technique == echoScan {
				p.port = 0
			}
			b := p.build(a.from)
			// The gateway's parser shares no code with the scanner, and verifies checksums.
			judge := packet.Packet{Data: sum4(b)}
			if !judge.Parse() {
				t.Errorf("%s to %v: the gateway would call it malformed: %v", technique, a.to, judge.DropReason)
			}
			read, ok := parseFrame(asFrame(b))
			if !ok {
				t.Fatalf("%s to %v does not parse", technique, a.to)
			}
			if got, ok := read.asProbe(); !ok || got != p {
				t.Errorf("%s to %v reads back as %v", technique, a.to, got)
			}
			if read.src.Addr() != a.from {
				t.Errorf("%s to %v comes from %v", technique, a.to, read.src)
			}
		}
	}
}

func TestParseFrameToleratesTruncation(t *testing.T) {
	for _, a := range []string{"10.77.0.1", "fd77::1"} {
		for technique := synScan; technique < techniqueCount; technique++ {
			to := netip.MustParseAddr(a)
			frame := asFrame(icmpError(probe{technique, to, 1}.build(to), portUnreachable))
			for n := range frame {
				p, _ := parseFrame(frame[:n])
				p.matches()
			}
		}
	}
}

// icmpError quotes a packet, whose addresses it takes for its own.
func icmpError(quoted []byte, a answer) []byte {
	v4 := quoted[0]>>4 == 4
	header := ipv6Header
	if v4 {
		header = ipv4Header
	}
	b := append([]byte(nil), quoted[:header]...)
	body := make([]byte, icmpHeader)
	switch {
	case v4:
		b[9], body[0], body[1] = protoICMP, icmp4Unreachable, code4Port
	default:
		b[6], body[0], body[1] = protoICMPv6, icmp6Unreachable, code6Port
	}
	if a == otherError {
		body[1] = 1 // host unreachable; administratively prohibited
	}
	return append(append(b, body...), quoted...)
}

func TestFrameHousekeeping(t *testing.T) {
	for icmpType, want := range map[uint8]bool{
		128: false, 129: false, 1: false, 130: true, 133: true, 135: true, 136: true, 137: true, 143: true, 144: false,
	} {
		if got := (frame{proto: protoICMPv6, icmpType: icmpType}).housekeeping(); got != want {
			t.Errorf("ICMPv6 type %d is housekeeping: %v, want %v", icmpType, got, want)
		}
	}
	if (frame{proto: protoICMP, icmpType: 135}).housekeeping() {
		t.Error("IPv4 has no such housekeeping")
	}
}
