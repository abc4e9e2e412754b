package admission

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// exchange is a connection with both ends in this test. What the client sends
// reaches the gate late, twice, in any order or not at all, and all of it must
// pass. What an attacker forges, with at most one of the two numbers right,
// must neither pass nor change the flow.
type exchange struct {
	*harness
	v       testPeer
	service string
	scale   uint8

	sent, acked, received uint32 // the stack's: next, acknowledged by what has arrived, received by the client
	next, taken           uint32 // the client's: next, acknowledged by the stack
	arrived               uint32 // of the client's, in order
	edge                  uint32 // of the window that the stack has announced
	late                  []delayedSegment
}

// delayedSegment is a segment of the client in transit.
type delayedSegment struct {
	seq, ack, size uint32
	flags          uint8
}

const exchangePort = 40000

func newExchange(t *rapid.T) *exchange {
	d := &exchange{harness: newHarness(t), service: rapid.SampledFrom([]string{"db", "ssh", "web"}).Draw(t, "service")}
	d.v = d.peer(rapid.SampledFrom([]string{"192.0.2.1", "2001:db8::1"}).Draw(t, "client"))
	d.scale = rapid.Uint8Range(0, 8).Draw(t, "scale")
	near := func(what string) uint32 { // where numbers wrap around, more often than not
		return rapid.SampledFrom([]uint32{0, 1<<31 - 1, 1<<32 - 1}).Draw(t, what) - rapid.Uint32Range(0, 200_000).Draw(t, "less")
	}
	isn, iss := near("ISN"), near("ISS")
	if d.service != "web" {
		d.v.mustKnock(alice, d.service, "")
	}
	if got := d.admit(d.v.tcp(exchangePort, d.service, packet.SYN, isn, 0, "")); got.Action != Pass {
		t.Fatalf("SYN: %v", got.Reason)
	}
	const window = 29200
	d.next, d.taken, d.arrived, d.edge = isn+1, isn+1, isn+1, isn+1+window
	d.leaves(t, packet.SYN|packet.ACK, iss, window, 0, 3, 3, d.scale, 1)
	d.sent, d.acked, d.received = iss+1, iss+1, iss+1
	d.forge(t)
	d.client(t, packet.ACK, 0)
	d.arrive(t)
	d.v.mustEnter(exchangePort, d.service, alice)
	return d
}

// leaves sends a segment of the stack.
func (d *exchange) leaves(t *rapid.T, flags uint8, seq uint32, window uint16, size int, options ...byte) {
	b := packettest.TCP{
		Src: d.v.server(d.service), Dst: netip.AddrPortFrom(d.v.addr, exchangePort), Flags: flags,
		Seq: seq, Ack: d.taken, Window: window, Options: options, Payload: make([]byte, size),
	}.Packet()
	if !d.egress(b) {
		t.Fatalf("flags %#x, %d bytes of the stack are kept back", flags, size)
	}
}

// client sends a segment of size bytes from the client.
func (d *exchange) client(t *rapid.T, flags uint8, size uint32) {
	size = min(size, d.edge-d.next)
	d.late = append(d.late, delayedSegment{seq: d.next, ack: d.received, size: size, flags: flags})
	d.next += size
}

// arrive delivers one of the client's segments to the gate; it may be delivered
// again.
func (d *exchange) arrive(t *rapid.T) {
	if len(d.late) == 0 {
		return
	}
	i := rapid.IntRange(0, len(d.late)-1).Draw(t, "segment")
	s := d.late[i]
	if !rapid.Bool().Draw(t, "it will arrive again") {
		d.late = slices.Delete(d.late, i, i+1)
	}
	b := d.v.tcp(exchangePort, d.service, s.flags, s.seq, s.ack, string(make([]byte, s.size)))
	if got := d.admit(b); got.Action != Pass {
		t.Fatalf("a segment of the client, seq %d ack %d: %v\n%+v", s.seq, s.ack, got.Reason, d)
	}
	if seqAfter(s.ack, d.acked) {
		d.acked = s.ack
	}
	if !seqAfter(s.seq, d.arrived) && seqAfter(s.seq+s.size, d.arrived) {
		d.arrived = s.seq + s.size
	}
	// Segments older than a window are lost: TCP has moved on.
	const window = 1<<16 - 1
	d.late = slices.DeleteFunc(d.late, func(s delayedSegment) bool { return d.acked-s.ack > window && seqAfter(d.acked, s.ack) })
}

// stackSends sends new data of the stack, or the oldest again, within a window.
func (d *exchange) stackSends(t *rapid.T) {
	const most = 200_000
	size := rapid.Uint32Range(0, 1400).Draw(t, "bytes")
	if rapid.Bool().Draw(t, "again") {
		d.leaves(t, packet.ACK, d.acked, d.announce(t), int(min(size, d.sent-d.acked)))
		return
	}
	if d.sent-d.acked+size > most {
		return
	}
	d.leaves(t, packet.ACK, d.sent, d.announce(t), int(size))
	d.sent += size
}

// announce acknowledges what has arrived and announces a window.
func (d *exchange) announce(t *rapid.T) uint16 {
	d.taken = d.arrived
	window := rapid.Uint16().Draw(t, "window")
	if edge := d.taken + uint32(window)<<d.scale; seqAfter(edge, d.edge) {
		d.edge = edge
	}
	return window
}

// forge sends a forged segment and verifies that it has no effect.
func (d *exchange) forge(t *rapid.T) {
	const around = 1 << 26 // more than any window here
	s := delayedSegment{
		seq:   d.next + rapid.Uint32Range(around, 1<<32-1-around).Draw(t, "wrong seq"),
		ack:   d.sent + rapid.Uint32Range(around, 1<<32-1-around).Draw(t, "wrong ack"),
		flags: rapid.Byte().Draw(t, "flags") &^ packet.SYN, size: rapid.Uint32Range(0, 100).Draw(t, "forged bytes"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "luck") {
	case 0:
		s.ack = d.received
	case 1:
		if s.seq = d.next; s.flags&packet.RST != 0 {
			return // a matter of the stack's: see TestOffPathAttackerChangesNothing
		}
	}
	b := d.v.tcp(exchangePort, d.service, s.flags, s.seq, s.ack, string(make([]byte, s.size)))
	before := d.numbers()
	if got := d.admit(b); got.Action != Drop {
		t.Fatalf("forged, flags %#x, seq next%+d, ack sent%+d: %v %v", s.flags, int32(s.seq-d.next), int32(s.ack-d.sent), got.Action, got.Reason)
	}
	// A router's error about a packet that was never sent.
	quoted := d.v.reply(exchangePort, d.service, packet.ACK, s.ack, d.next, "12345678")
	if s.ack != d.received {
		icmp := d.v.icmpError(quoted)
		at := len(icmp) - len(quoted) - 2
		binary.BigEndian.PutUint16(icmp[at:], rapid.Uint16().Draw(t, "MTU"))
		packettest.Checksums(icmp)
		if got := d.admit(icmp); got.Action != Drop {
			t.Fatalf("a forged ICMP error: %v", got.Reason)
		}
	}
	if after := d.numbers(); after != before {
		t.Fatalf("what was forged changes the flow: %v, %v", before, after)
	}
}

// numbers returns what the flow knows of the connection.
func (d *exchange) numbers() [4]uint32 {
	f := d.flow(d.v.tuple(exchangePort, d.service))
	return [4]uint32{f.una, f.nxt, f.isn, uint32(f.state)}
}

func TestGatePassesClientAndDropsOffPathAttacker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newExchange(t)
		t.Repeat(map[string]func(*rapid.T){
			"stack":  d.stackSends,
			"stack2": d.stackSends,
			"hears": func(t *rapid.T) {
				d.received += rapid.Uint32Range(0, d.sent-d.received).Draw(t, "received")
			},
			"client": func(t *rapid.T) { d.client(t, packet.ACK, rapid.Uint32Range(0, 1400).Draw(t, "bytes")) },
			"client probes": func(t *rapid.T) { // a keepalive, or of a window of none (RFC 9293, 3.8.4 and 3.8.6.1)
				d.late = append(d.late, delayedSegment{seq: d.taken - 1, ack: d.received, flags: packet.ACK})
			},
			"client repeats": func(t *rapid.T) {
				d.late = append(d.late, delayedSegment{seq: d.taken, ack: d.received, size: min(1400, d.next-d.taken), flags: packet.ACK | packet.PSH})
			},
			"arrives":  d.arrive,
			"arrives2": d.arrive,
			"forged":   d.forge,
		})
	})
}
