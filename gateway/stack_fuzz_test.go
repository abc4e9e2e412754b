package gateway_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// A fuzzed segment has this many bytes: flags, size, and the distance of its
// numbers from the expected ones; then the first bytes of its options.
const (
	fuzzedSegment  = 6
	fuzzedSegments = 32   // of one connection at most
	fuzzedCheck    = 1000 // connections, after which one must work as usual
)

// FuzzSegmentsToStack attacks an open service from an attacker's own address:
// its segments reach the stack, because it knows all sequence numbers.
func FuzzSegmentsToStack(f *testing.F) {
	f.Add([]byte{packet.ACK, 0, 0, 0, 0, 0})
	f.Add([]byte{packet.ACK | packet.PSH, 4, 0, 0, 0, 0, packet.FIN | packet.ACK, 0, 0, 4, 0, 0})
	f.Add([]byte{packet.ACK, 8, 0, 8, 0, 0, packet.ACK, 8, 0, 0, 0, 0, packet.RST, 0, 0, 16, 0, 0})
	f.Add([]byte{packet.SYN, 0, 0xff, 0xff, 0, 0, packet.ACK | packet.URG, 1, 0, 0, 0xff, 0xff})

	o := &offPath{failer: f, dst: netip.MustParseAddrPort("10.77.0.1:443"), src: netip.MustParseAddrPort("192.0.2.1:1024")}
	o.start(policy.Service{Name: "web", Port: o.dst.Port(), Mode: policy.ModeAuth}, false, admission.Ban{})
	f.Cleanup(o.end)
	n := 0
	f.Fuzz(func(t *testing.T, script []byte) {
		o.failer = t
		if n++; n%fuzzedCheck == 1 {
			o.next()
			o.connect()
			o.send(packet.ACK|packet.PSH, o.seq, "hello")
			o.sent.WriteString("hello")
			o.seq += uint32(len("hello"))
			o.receive("the echo", func(*packet.Packet) bool { return o.echoed.String() == "hello" })
			o.send(packet.RST, o.seq, "")
		}
		o.next()
		o.handshake()
		for range min(len(script)/fuzzedSegment, fuzzedSegments) {
			o.inject(o.fuzzed(script[:fuzzedSegment]))
			script = script[fuzzedSegment:]
			o.drain()
		}
		o.send(packet.RST, o.seq, "")
		time.Sleep(offPathQuiet / 10)
		o.drain()
		o.gate.Remove(admission.TupleOf(o.src, o.dst))
		o.stack.Abort(admission.TupleOf(o.src, o.dst))
	})
}

// next starts another connection.
func (o *offPath) next() {
	const first = 1024
	o.src = netip.AddrPortFrom(o.src.Addr(), max(o.src.Port()+1, first))
	if o.src.Port() == first {
		o.src = netip.AddrPortFrom(o.src.Addr().Next(), first)
	}
	o.seq, o.ack, o.una, o.fin = offPathISN, 0, 0, false
	o.echoed.Reset()
	o.sent.Reset()
	o.completed.Store(0)
	o.mu.Lock()
	o.heard.Reset()
	o.mu.Unlock()
}

// handshake starts a connection; the input may complete the handshake.
func (o *offPath) handshake() {
	o.send(packet.SYN, o.seq, "")
	o.seq++
	o.receive("the SYN-ACK", func(p *packet.Packet) bool {
		o.ack = p.Seq + 1
		return p.Flags == packet.SYN|packet.ACK && p.Ack == o.seq
	})
}

// fuzzed returns a segment whose numbers are near the expected ones.
func (o *offPath) fuzzed(b []byte) []byte {
	near := func(hi, lo byte) uint32 { return uint32(int32(int16(uint16(hi)<<8 | uint16(lo)))) }
	s := packettest.TCP{
		Src: o.src, Dst: o.dst, Flags: b[0], Seq: o.seq + near(b[2], b[3]), Ack: o.ack + near(b[4], b[5]),
		Window: uint16(b[1]) << 4, Payload: make([]byte, b[1]),
	}
	if b[0]&packet.URG != 0 { // any options that these bytes make
		s.Options = []byte{b[1], b[2], b[3], b[4]}
	}
	if b[0]&(packet.SYN|packet.RST|packet.FIN) == 0 && s.Seq == o.seq {
		o.seq += uint32(len(s.Payload))
	}
	return s.Packet()
}

// drain reads the sent packets: only segments to this peer are permitted.
func (o *offPath) drain() {
	o.Helper()
	for p := (packet.Packet{}); o.wire.TryRead(&p); {
		if !p.Parse() || p.Proto != packet.TCP || p.Tuple.Source() != o.dst {
			o.Fatalf("a packet leaves with %v: %v", p.DropReason, p.Tuple)
		}
		if p.Tuple.Destination() == o.src && p.Seq == o.ack {
			o.ack += uint32(len(p.Data) - p.Payload)
		}
	}
}
