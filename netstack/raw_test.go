package netstack_test

import (
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// A raw is a client that sends raw packets.
type raw struct {
	th       *harness
	src, dst netip.AddrPort
	seq, ack uint32
	options  []byte // of the SYN
	window   uint16 // 0: 65535
}

func (th *harness) raw(port uint16, dst netip.AddrPort) *raw {
	src := client4
	if dst.Addr().Is6() {
		src = client6
	}
	return &raw{th: th, src: netip.AddrPortFrom(src, port), dst: dst, seq: 1000}
}

func (r *raw) packet(flags uint8, payload []byte) []byte {
	s := packettest.TCP{Src: r.src, Dst: r.dst, Flags: flags, Seq: r.seq, Ack: r.ack, Window: r.window, Payload: payload}
	if flags&packet.SYN != 0 {
		s.Options = r.options
	}
	return s.Packet()
}

// send sends a segment and advances the sequence number.
func (r *raw) send(flags uint8, payload []byte) {
	r.th.Helper()
	r.th.put(r.packet(flags, payload))
	r.seq += uint32(len(payload))
	if flags&(packet.SYN|packet.FIN) != 0 {
		r.seq++
	}
}

// expect returns the next packet to this client, which must have these flags.
func (r *raw) expect(flags uint8) *packet.Packet {
	r.th.Helper()
	p := r.th.next(timeout)
	for p != nil && p.Tuple != r.tuple().Reverse() {
		p = r.th.next(timeout) // of another client
	}
	if p == nil {
		r.th.Fatalf("nothing came, flags %#x were expected", flags)
	}
	if p.Flags&^packet.PSH != flags {
		r.th.Fatalf("%v with flags %#x came, %#x were expected", p.Tuple, p.Flags, flags)
	}
	r.ack = p.Seq + uint32(len(p.Data)-p.Payload)
	if flags&(packet.SYN|packet.FIN) != 0 {
		r.ack++
	}
	return p
}

// open completes the client's side of a handshake.
func (r *raw) open() *raw {
	r.th.Helper()
	r.send(packet.SYN, nil)
	r.expect(packet.SYN | packet.ACK)
	r.send(packet.ACK, nil)
	return r
}

// tuple returns the tuple of the connection, as in a Stack.
func (r *raw) tuple() packet.Tuple {
	return packet.Tuple{
		Src: packet.AddrFrom(r.src.Addr()), SrcPort: r.src.Port(),
		Dst: packet.AddrFrom(r.dst.Addr()), DstPort: r.dst.Port(),
	}
}

// inject passes a packet to the stack, as the gate does with a deferred SYN.
func (th *harness) inject(b []byte, d netstack.Decision) {
	p := packet.Packet{Data: b}
	if !p.Parse() {
		th.Errorf("a packet of this test is malformed: %v", p.DropReason)
	}
	th.stack.Inject(&p, d)
}

// settles fails unless the connection's endpoint comes to that stage. It sends
// its last packet a moment before.
func (r *raw) settles(stage netstack.CloseState) {
	r.th.Helper()
	got := r.th.stack.CloseState(r.tuple())
	for end := time.Now().Add(timeout); got != stage && time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		got = r.th.stack.CloseState(r.tuple())
	}
	if got != stage {
		r.th.Errorf("closing is at stage %d, not %d", got, stage)
	}
}
