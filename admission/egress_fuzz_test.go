package admission

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// FuzzGateEgress lets both ends of a flow send any segments, with numbers near
// the expected ones. Whatever the stack does, only its client's tuple is
// answered, and the gate's tables and numbers stay consistent. raw is a packet
// of the stack that need not be valid.
func FuzzGateEgress(f *testing.F) {
	synACK := []byte{0x80 | packet.SYN | packet.ACK, 0, 0, 0, 0, 0, 7}
	seeds := newHarness(f).peer("192.0.2.1")
	f.Add(seeds.reply(40000, "web", packet.ACK, 1, 1001, "data"), synACK)
	f.Add(seeds.syn(40000, "web"), append(synACK, packet.ACK, 0, 0, 0, 0, 1, 0, 0x80|packet.ACK, 9, 0, 1, 0, 1, 0))
	f.Add([]byte{0x45}, []byte{packet.SYN, 0, 0xff, 0xff, 0, 0, 0, 0x80 | packet.RST | packet.ACK, 0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, raw, script []byte) {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		h.want(peer.syn(40000, "web"), ReasonOpen)
		const step, maxSteps = 7, 64
		for range min(len(script)/step, maxSteps) {
			fuzzStep(h, peer, script[:step])
			script = script[step:]
		}
		var p packet.Packet
		if p.DecodeTCP(raw) && h.gate.Egress(&p, len(raw)-p.Payload) && p.Tuple.Reverse() != peer.tuple(40000, "web") {
			t.Fatalf("a packet leaves to %v, which has no flow", p.Tuple)
		}
		h.check()
	})
}

// fuzzStep sends a segment of either end, or completes the handshake.
func fuzzStep(h *harness, peer testPeer, b []byte) {
	const ofStack = 0x80
	seq := uint32(int32(int16(binary.BigEndian.Uint16(b[2:]))))
	ack := uint32(int32(int16(binary.BigEndian.Uint16(b[4:]))))
	payload := string(make([]byte, b[1]))
	before := peer.h.flow(peer.tuple(40000, "web"))
	switch {
	case before == nil:
		return
	case b[0] == 0:
		_ = h.gate.HandshakeDone(peer.tuple(40000, "web"))
		h.check()
		return
	case b[0]&ofStack == 0:
		h.admit(peer.tcp(40000, "web", b[0], 1001+seq, ack, payload))
	default:
		h.egress(packettest.TCP{
			Src: peer.server("web"), Dst: netip.AddrPortFrom(peer.addr, 40000), Flags: b[0] &^ ofStack, Seq: seq, Ack: 1001 + ack,
			Window: uint16(b[6]) << 8, Options: []byte{3, 3, b[6], 0}, Payload: []byte(payload),
		}.Packet())
	}

	after := h.flow(peer.tuple(40000, "web"))
	if after == nil || after.phase != synchronized {
		return
	}
	if seqAfter(after.una, after.nxt) || seqAfter(after.rcvNxt, after.rcvEdge) || after.nxt-after.una > after.flight && after.nxt != after.una {
		h.Fatalf("after %x: %+v", b, after.tcb)
	}
}
