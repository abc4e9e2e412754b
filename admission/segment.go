package admission

import (
	"encoding/binary"
	"math"

	"github.com/knockgw/knockgw/packet"
)

// Which segments of an admitted flow its client can have sent, by their
// numbers. An attacker off the path can forge every other field.

// tcb is what the gate knows of a connection's sequence numbers, a transmission
// control block (RFC 9293, 3.3.1). It learns our side from the segments that the
// stack sends, and the client's side from the acknowledgements in them: both
// reach the gate before the client can answer.
//
//	          SYN-ACK leaves              ACK of it
//	listen -----------------> synReceived ----------> synchronized
//	   |                                                  ^
//	   '---> cookieReceived ------------------------------'
//	  an ACK without a flow,    the stack sends a segment:
//	  to a flooded service      it has verified the cookie
type tcb struct {
	phase    tcpPhase
	scale    uint8  // of the windows that we announce, after the SYN-ACK (RFC 7323, 2.2)
	answered uint8  // entries of synACKs in use
	twoSYNs  bool   // other means something
	stamped  bool   // the SYN-ACK has a timestamp, and echoes
	echo     uint32 // this one, of the client's SYN
	isn      uint32 // the client's initial sequence number
	other    uint32 // that of the latest other SYN, which may be the forged one or the client's own

	una, nxt uint32 // of ours: oldest unacknowledged, next to be sent
	flight   uint32 // the most bytes of ours that were in flight at once

	rcvNxt  uint32 // the highest acknowledgement that we have sent
	rcvEdge uint32 // the first number beyond all windows that we have announced
	rcvWnd  uint32 // the largest of these, in bytes

	synACKs [2]synACK // the first that left and the latest other one
}

type tcpPhase uint8

const (
	listen         tcpPhase = iota // a SYN has passed; the stack has not answered it
	synReceived                    // its SYN-ACK has left
	cookieReceived                 // its SYN and SYN-ACK are forgotten; only the stack can verify the ACK
	synchronized                   // the SYN-ACK is acknowledged
)

// synACK is a SYN-ACK that left. The stack may send two different ones: under a
// SYN flood one is a SYN cookie, and it answers each SYN that has one, forged or
// not. The client acknowledges the one that answers its own SYN.
type synACK struct {
	seq, ack uint32
	window   uint16 // not scaled (RFC 7323, 2.2)
	scale    uint8
}

const (
	// minAckWindow is how old an acknowledgement may be at least, in bytes: a
	// client's window before scaling. RFC 5961, 5.2 takes the largest window
	// that the client has announced; the most that was ever in flight is never
	// more.
	minAckWindow = math.MaxUint16
	// handshakeWindow is the largest window that a SYN-ACK can announce. A SYN
	// within it ends a handshake in gVisor; one outside is only answered with an
	// ACK.
	handshakeWindow = math.MaxUint16
	// keepaliveBefore is how far before the window a probe may be (RFC 9293,
	// 3.8.4).
	keepaliveBefore = 1
	// finBeyond is how far beyond the window a segment may be that follows a
	// FIN.
	finBeyond = 1
)

// accepts reports whether the flow's client can have sent segment p, and notes
// what p acknowledges:
//
//   - a SYN: its own SYN again, or one that the stack answers with a challenge
//     ACK (RFC 5961, 4)
//   - a RST: at the next sequence number, or within the window, where the stack
//     challenges it (RFC 5961, 3)
//   - every other segment must acknowledge something (RFC 9293, 3.10.7.4): in the
//     handshake exactly the SYN-ACK, afterwards what was sent, and not long ago
//     (RFC 5961, 5); and its sequence number must be in the window, or so little
//     before it that the client may need an answer
func (f *flow) accepts(p *packet.Packet) bool {
	switch {
	case p.Flags&packet.SYN != 0:
		return f.acceptsSYN(p)
	case p.Flags&packet.RST != 0:
		return f.acceptsRST(p)
	case p.Flags&packet.ACK != 0:
		return f.acceptsACK(p)
	default:
		return false
	}
}

func (f *flow) acceptsSYN(p *packet.Packet) bool {
	switch {
	case p.Flags&(packet.ACK|packet.RST|packet.FIN) != 0:
		return false // we never send a SYN, so it answers none
	case p.Seq == f.isn || f.twoSYNs && p.Seq == f.other || f.state != stateHandshake:
		return true
	case endsHandshake(p.Seq, f.isn) || f.twoSYNs && endsHandshake(p.Seq, f.other):
		return false
	}
	f.other, f.twoSYNs = p.Seq, true
	return true
}

// endsHandshake reports whether a SYN would end the handshake of the SYN with
// sequence number isn in the stack.
func endsHandshake(seq, isn uint32) bool { return seq-isn-1 <= handshakeWindow }

func (f *flow) acceptsRST(p *packet.Packet) bool {
	switch {
	case f.phase == listen:
		return false
	case f.phase == cookieReceived:
		return true // the stack compares it with the one number that it has
	case f.phase == synReceived:
		// Exactly: in a handshake the stack takes any in the window.
		for i := range f.answered {
			if p.Seq == f.synACKs[i].ack {
				return true
			}
		}
		return false
	case f.state == stateHandshake:
		return p.Seq == f.rcvNxt // the stack may not have taken the ACK
	default:
		return p.Seq-f.rcvNxt <= f.rcvEdge-f.rcvNxt+finBeyond
	}
}

func (f *flow) acceptsACK(p *packet.Packet) bool {
	switch f.phase {
	case listen:
		return false
	case cookieReceived:
		return true
	case synReceived:
		for i := range f.answered {
			if a := &f.synACKs[i]; p.Ack == a.seq+1 && p.Seq-a.ack <= uint32(a.window)+finBeyond {
				f.synchronize(a)
				return true
			}
		}
		return false
	}

	oldest := max(f.flight, minAckWindow)
	if p.Ack-(f.una-oldest) > f.nxt-f.una+oldest {
		return false
	}
	before := f.rcvWnd + keepaliveBefore // what we have acknowledged, but the client may send again
	if p.Seq-(f.rcvNxt-before) > f.rcvEdge-f.rcvNxt+before+finBeyond {
		return false
	}

	if seqAfter(p.Ack, f.una) {
		f.una = p.Ack
	}
	return true
}

// synchronize notes that the client has acknowledged a.
func (f *flow) synchronize(a *synACK) {
	f.phase, f.isn, f.scale = synchronized, a.ack-1, a.scale
	f.una, f.nxt, f.flight = a.seq+1, a.seq+1, 0
	f.rcvNxt, f.rcvWnd = a.ack, uint32(a.window)
	f.rcvEdge = f.rcvNxt + f.rcvWnd
}

// maySend reports whether a segment of the stack, with size bytes of payload,
// belongs to this flow and not to an earlier one of the same tuple.
func (f *flow) maySend(p *packet.Packet, size int) bool {
	switch {
	case p.Flags&packet.RST != 0:
		// While the flow begins, of an earlier flow, or to an ACK that bore no
		// cookie.
		return f.state != stateHandshake || p.Flags&packet.ACK != 0 && p.Ack == f.isn+1
	case p.Flags&packet.SYN != 0:
		return f.maySendSYNACK(p)
	case f.phase == cookieReceived:
		f.synchronize(&synACK{seq: p.Seq - 1, ack: p.Ack, window: p.Window})
		return true
	case f.phase == synReceived: // a challenge ACK, but no data to an unproven address
		return size == 0 && p.Flags&packet.FIN == 0
	default:
		return f.phase == synchronized
	}
}

// trackSend notes what a segment says that the stack sends.
func (f *flow) trackSend(p *packet.Packet, size int) {
	if f.phase != synchronized || p.Flags&(packet.SYN|packet.RST) != 0 {
		return
	}
	end := p.Seq + uint32(size) // at most packet.MaxPacket
	if p.Flags&packet.FIN != 0 {
		end++
	}
	if seqAfter(end, f.nxt) {
		f.nxt = end
		f.flight = max(f.flight, end-f.una)
	}
	if p.Flags&packet.ACK == 0 {
		return
	}

	window := uint32(p.Window) << f.scale
	f.rcvNxt = latest(f.rcvNxt, p.Ack)
	f.rcvEdge = latest(f.rcvEdge, f.rcvNxt)
	f.rcvEdge = latest(f.rcvEdge, p.Ack+window)
	f.rcvWnd = max(f.rcvWnd, window)
}

// maySendSYNACK is maySend for a SYN-ACK: the same again, or one that answers a
// SYN of this flow whose handshake is not done.
func (f *flow) maySendSYNACK(p *packet.Packet) bool {
	if p.Flags&packet.ACK == 0 {
		return false
	}
	for i := range f.answered {
		if p.Seq == f.synACKs[i].seq && p.Ack == f.synACKs[i].ack {
			return true
		}
	}
	isn := p.Ack - 1
	if f.state != stateHandshake || isn != f.isn && (!f.twoSYNs || isn != f.other) {
		return false
	}
	scale, _ := windowScale(p.TCPOptions())
	f.synACKs[min(f.answered, 1)] = synACK{seq: p.Seq, ack: p.Ack, window: p.Window, scale: scale}
	f.answered = min(f.answered+1, uint8(len(f.synACKs)))
	f.phase = synReceived
	f.echo, f.stamped = timestampEcho(p.TCPOptions())
	return true
}

// unstamped reports whether p, of a handshake under way, lacks the timestamp
// that was negotiated.
func (f *flow) unstamped(p *packet.Packet) bool {
	if f.state != stateHandshake || !f.stamped || p.Flags&(packet.SYN|packet.RST|packet.ACK) != packet.ACK {
		return false
	}
	return option(p.TCPOptions(), optionTimestamp, timestampLength) == nil
}

// bearsCookie notes that the flow begins with an ACK that may answer a SYN
// cookie.
func (f *flow) bearsCookie(p *packet.Packet) {
	f.phase, f.isn = cookieReceived, p.Seq-1
	f.synACKs[0] = synACK{seq: p.Ack - 1, ack: p.Seq, window: math.MaxUint16}
	f.answered = 1
}

// inFlight reports whether seq is one that the client may not have seen yet: the
// test for an ICMP error that an attacker off the path cannot pass (RFC 5927,
// 4.1).
func (f *flow) inFlight(seq uint32) bool {
	switch f.phase {
	case synchronized:
		return !seqAfter(f.una, seq) && !seqAfter(seq, f.nxt)
	case synReceived:
		for i := range f.answered {
			if seq-f.synACKs[i].seq <= 1 { // the SYN-ACK, or a challenge ACK
				return true
			}
		}
	}
	return false
}

// seqAfter reports whether sequence number a is after b (RFC 9293, 3.4).
func seqAfter(a, b uint32) bool { return int32(a-b) > 0 }

// latest returns the later of two sequence numbers.
func latest(a, b uint32) uint32 {
	if seqAfter(b, a) {
		return b
	}
	return a
}

const (
	optionEnd, optionNOP = 0, 1 // RFC 9293, 3.2
	optionWindowScale    = 3    // RFC 7323, 2.2
	windowScaleLength    = 3
	windowScaleLimit     = 14 // RFC 7323, 2.3
	optionTimestamp      = 8  // RFC 7323, 3.2
	timestampLength      = 10
)

// windowScale returns the shift count of the Window Scale option; ok is false if
// there is none.
func windowScale(options []byte) (scale uint8, ok bool) {
	o := option(options, optionWindowScale, windowScaleLength)
	if o == nil {
		return 0, false
	}
	return min(o[2], windowScaleLimit), true
}

// timestampEcho returns the TSecr of the Timestamps option; ok is false if there
// is none.
func timestampEcho(options []byte) (echo uint32, ok bool) {
	o := option(options, optionTimestamp, timestampLength)
	if o == nil {
		return 0, false
	}
	const at = 6
	return binary.BigEndian.Uint32(o[at:]), true
}

// option returns the first option of that kind and length in bytes, nil if there
// is none.
func option(options []byte, kind, length byte) []byte {
	for len(options) > 0 && options[0] != optionEnd {
		if options[0] == optionNOP {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return nil
		}
		if options[0] == kind && options[1] == length {
			return options[:length]
		}
		options = options[options[1]:]
	}
	return nil
}
