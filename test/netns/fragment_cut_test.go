//go:build linux

package netns_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// cut makes fragments of an IP packet without options or extensions. Each goes
// from one offset into the packet's payload, a multiple of 8, to the next.
func cut(t *testing.T, packet []byte, offsets ...int) [][]byte {
	t.Helper()
	return cutAs(t, packet, rand.Uint32N(0xffff)+1, offsets...) // an id of 0 the kernel would replace
}

// cutAs is cut with the identification that the fragments have in common.
func cutAs(t *testing.T, packet []byte, id uint32, offsets ...int) [][]byte {
	t.Helper()
	const header4, header6 = 20, 40
	var pieces [][]byte
	for i, from := range offsets {
		more := i+1 < len(offsets)
		if packet[0]>>4 == 4 {
			payload := packet[header4:]
			ip := &layers.IPv4{Version: 4, TTL: 64, Id: uint16(id), Protocol: layers.IPProtocol(packet[9]),
				FragOffset: uint16(from / 8), SrcIP: packet[12:16], DstIP: packet[16:20]}
			to := len(payload)
			if more {
				ip.Flags, to = layers.IPv4MoreFragments, offsets[i+1]
			}
			pieces = append(pieces, serialize(t, ip, gopacket.Payload(payload[from:to])))
			continue
		}
		payload, flag := packet[header6:], 0
		to := len(payload)
		if more {
			to, flag = offsets[i+1], 1
		}
		extension := []byte{packet[6], 0}
		extension = binary.BigEndian.AppendUint16(extension, uint16(from|flag))
		extension = binary.BigEndian.AppendUint32(extension, id)
		src, _ := netip.AddrFromSlice(packet[8:24])
		dst, _ := netip.AddrFromSlice(packet[24:40])
		pieces = append(pieces, rawIP(t, src, dst, layers.IPProtocolIPv6Fragment, append(extension, payload[from:to]...)))
	}
	return pieces
}

// A takeover is a session that the client's kernel has begun, and that the test
// continues with packets of its own.
type takeover struct {
	tap      *lab.Capture
	src, dst netip.AddrPort
	conn     net.Conn
}

// takeOver begins a session at an endpoint.
func (d endpoint) takeOver(t *testing.T, l *lab.Lab, greeting string) takeover {
	t.Helper()
	s := takeover{tap: l.Client.Capture(lab.Link), dst: d.listen}
	conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if got := ask(t, conn, "hello"); got != greeting {
		t.Fatalf("the upstream answered %q", got)
	}
	s.src, s.conn = conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn
	if !s.answered(greeting, answerTime) { // the tap is a moment behind, and segment needs all there was
		t.Fatal("the tap has not seen the answer")
	}
	return s
}

// segment is what the client's kernel would send next, if it were given text to
// send.
func (s takeover) segment(t *testing.T, text string) []byte {
	t.Helper()
	next := layers.TCP{ACK: true, PSH: true, Window: 500}
	var value, echo uint32
	for _, p := range s.tap.Packets() {
		tcp := p.TCP()
		if tcp == nil {
			continue
		}
		end := tcp.Seq + uint32(len(tcp.Payload))
		if tcp.SYN {
			end++
		}
		switch src := netip.AddrPortFrom(p.Src, uint16(tcp.SrcPort)); {
		case src == s.src:
			next.Seq, value = end, timestampOf(tcp)
		case src == s.dst && uint16(tcp.DstPort) == s.src.Port():
			next.Ack, echo = end, timestampOf(tcp)
		}
	}
	stamps := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, value), echo)
	next.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: stamps}}
	return tcpSegment(t, s.src, s.dst, next, []byte(text))
}

// timestampOf is the TSval of a segment.
func timestampOf(tcp *layers.TCP) uint32 {
	for _, o := range tcp.Options {
		if o.OptionType == layers.TCPOptionKindTimestamps && len(o.OptionData) >= 4 {
			return binary.BigEndian.Uint32(o.OptionData)
		}
	}
	return 0
}

// answered waits until the service has said text in one segment.
func (s takeover) answered(text string, timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, p := range s.tap.Packets() {
			tcp := p.TCP()
			if tcp != nil && p.Src == s.dst.Addr() && uint16(tcp.DstPort) == s.src.Port() &&
				bytes.Contains(tcp.Payload, []byte(text)) {
				return true
			}
		}
	}
	return false
}

// inject sends packets from a host in their order.
func inject(t *testing.T, h *lab.Host, dst netip.Addr, packets ...[]byte) {
	t.Helper()
	for _, p := range packets {
		if err := h.Inject(dst, p); err != nil {
			t.Fatal(err)
		}
	}
}
