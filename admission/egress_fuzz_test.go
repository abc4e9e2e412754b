package admission

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// FuzzGateEgress has both ends of a flow say anything, with numbers near those
// that are due: whatever the stack does, its client's tuple alone is answered,
// and the gate's tables and numbers stay in order. raw is a packet of the stack
// that need not be one.
func FuzzGateEgress(f *testing.F) {
	synACK := []byte{0x80 | packet.SYN | packet.ACK, 0, 0, 0, 0, 0, 7}
	seeds := newHarness(f).at("192.0.2.1")
	f.Add(seeds.reply(40000, "web", packet.ACK, 1, 1001, "data"), synACK)
	f.Add(seeds.syn(40000, "web"), append(synACK, packet.ACK, 0, 0, 0, 0, 1, 0, 0x80|packet.ACK, 9, 0, 1, 0, 1, 0))
	f.Add([]byte{0x45}, []byte{packet.SYN, 0, 0xff, 0xff, 0, 0, 0, 0x80 | packet.RST | packet.ACK, 0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, raw, script []byte) {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		w.want(v.syn(40000, "web"), ReasonOpen)
		const step, maxSteps = 7, 64
		for range min(len(script)/step, maxSteps) {
			fuzzStep(w, v, script[:step])
			script = script[step:]
		}
		var p packet.Packet
		if p.DecodeTCP(raw) && w.gate.Egress(&p, len(raw)-p.Payload) && p.Tuple.Reverse() != v.tuple(40000, "web") {
			t.Fatalf("a packet leaves to %v, which has no flow", p.Tuple)
		}
		w.check()
	})
}

// fuzzStep is a segment of either end, or the end of the handshake.
func fuzzStep(w *harness, v testPeer, b []byte) {
	const ofStack = 0x80
	seq := uint32(int32(int16(binary.BigEndian.Uint16(b[2:]))))
	ack := uint32(int32(int16(binary.BigEndian.Uint16(b[4:]))))
	payload := string(make([]byte, b[1]))
	before := v.w.flow(v.tuple(40000, "web"))
	switch {
	case before == nil:
		return
	case b[0] == 0:
		_ = w.gate.HandshakeDone(v.tuple(40000, "web"))
		w.check()
		return
	case b[0]&ofStack == 0:
		w.admit(v.tcp(40000, "web", b[0], 1001+seq, ack, payload))
	default:
		w.egress(packettest.TCP{
			Src: v.server("web"), Dst: netip.AddrPortFrom(v.addr, 40000), Flags: b[0] &^ ofStack, Seq: seq, Ack: 1001 + ack,
			Window: uint16(b[6]) << 8, Options: []byte{3, 3, b[6], 0}, Payload: []byte(payload),
		}.Packet())
	}

	after := w.flow(v.tuple(40000, "web"))
	if after == nil || after.phase != synchronized {
		return
	}
	if seqAfter(after.una, after.nxt) || seqAfter(after.rcvNxt, after.rcvEdge) || after.nxt-after.una > after.flight && after.nxt != after.una {
		w.Fatalf("after %x: %+v", b, after.tcb)
	}
}
