// Package explain judges the packets of a capture offline, as a gateway with a
// given configuration would have judged them.
package explain

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/verdict"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A Packet is one packet of a capture with the verdict on it.
type Packet struct {
	Number int // in the capture, from 1, as in Wireshark
	Record capture.Record
	Packet packet.Packet // parsed from Record.Data; its DropReason says what is wrong with it
	// Protected reports whether the packet is from or to a routed prefix. Other
	// packets have no verdict.
	Protected bool
	// BadChecksum reports whether the packet was judged as if its checksum were
	// correct: captures on the sending host contain packets whose checksum is
	// left to the hardware. A packet with a wrong checksum on the wire is
	// dropped.
	BadChecksum bool
	// Truncated reports whether the capture has only the beginning of the
	// packet. The rest was taken for zeros.
	Truncated bool
	// Inconclusive reports whether the verdict depends on the truncated part:
	// whether the packet was a knock or malformed is unknown. It has no verdict.
	Inconclusive bool
	// Forwarded reports whether the packet is an earlier one that the host has
	// forwarded, as in captures of all interfaces. It has no verdict of its own.
	Forwarded bool
	// Knocks are the knocks that were processed because of this packet.
	Knocks []knock.Event
	// Deferred are the verdicts on deferred SYNs that this packet's time or
	// knock has settled.
	Deferred []Deferred

	description string
}

// Description describes the verdict in words; "" if there is none.
func (p *Packet) Description() string { return p.description }

// Deferred is the verdict on a SYN that had waited for a knock.
type Deferred struct {
	Tuple   packet.Tuple
	Verdict admission.Verdict
}

// Capture judges the packets of a capture as a gateway with this configuration
// would have, had it started with the first of them, by the clock of the
// capture. It calls each with every packet, until that or reading fails. The
// Packet is borrowed for the call.
//
// A capture does not show which client authenticated on an admitted connection,
// nor replays of packets from before it. Capture writes nothing and does not
// use the network.
func Capture(cfg *config.Config, r *capture.Reader, each func(*Packet) error) error {
	policy, err := gateconfig.Policy(cfg, nil)
	if err != nil {
		return err
	}
	x := &explainer{cfg: cfg, dedup: dedup{seed: maphash.MakeSeed()}}
	x.judge, err = admission.NewSimulator(admission.Options{
		Policy: policy,
		Store:  replay.NewMemoryStore(replay.Options{Now: x.now, Mono: x.mono}),
		Now:    x.now, Mono: x.mono,
		Deliver:  func(*packet.Packet, admission.Verdict) {},
		Deferred: func(q *packet.Packet, v admission.Verdict) { x.p.Deferred = append(x.p.Deferred, Deferred{q.Tuple, v}) },
		Evicted:  func(packet.Tuple) {},
		Knocked:  func(e knock.Event) { x.p.Knocks = append(x.p.Knocks, e) },
		Limits:   gateconfig.Limits(&cfg.Limits),
		Ban:      admission.Ban(cfg.Ban),
	})
	if err != nil {
		return err
	}

	for {
		record, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("the capture is cut off after packet %d: %w", x.read+r.Skipped, err)
		case err != nil:
			return err
		}
		x.read++
		x.explain(record, x.read+r.Skipped)
		if err := each(&x.p); err != nil {
			return err
		}
	}
}

// explainer is the state of judging one capture.
type explainer struct {
	cfg   *config.Config
	judge *admission.Simulator
	dedup dedup
	read  int // packets so far
	first time.Time
	at    time.Time // of the current packet; never decreases
	p     Packet    // the current one
	data  []byte    // of the current packet, with zeros for what is missing
}

func (x *explainer) now() time.Time      { return x.at }
func (x *explainer) mono() time.Duration { return x.at.Sub(x.first) }

// explain judges one packet.
func (x *explainer) explain(r capture.Record, number int) {
	if x.first.IsZero() {
		x.first, x.at = r.Time, r.Time
	}
	if r.Time.After(x.at) {
		x.at = r.Time // captures of several interfaces may be slightly out of order
	}
	kept := len(r.Data)
	x.parse(r, number)

	x.judge.Advance()
	v := x.decide()
	x.judge.Advance()

	p := &x.p
	if p.Truncated && p.Protected && !p.Forwarded && x.inconclusive(v, kept) {
		p.Inconclusive, p.Record.Verdict, p.Record.Reason, p.description, p.Knocks = true, "", "", "", nil
	}
}

// parse makes the record the current packet. What the capture lacks of it
// becomes zeros.
func (x *explainer) parse(r capture.Record, number int) {
	x.p = Packet{Number: number, Record: r, Forwarded: x.dedup.forwarded(&r)}
	p, q := &x.p, &x.p.Packet
	p.Truncated = len(r.Data) < r.Length && r.Length <= packet.MaxPacket
	if p.Truncated {
		r.Data = append(r.Data, make([]byte, r.Length-len(r.Data))...)
	}
	x.data = r.Data

	*q = packet.Packet{Data: r.Data, Offload: packet.Offload{ChecksumValid: p.Truncated}}
	if q.Parse(); q.DropReason == packet.DropChecksum {
		p.BadChecksum = true
		*q = packet.Packet{Data: r.Data, Offload: packet.Offload{ChecksumValid: true}}
		q.Parse()
	}
}

// decide judges the current packet, and returns the gate's verdict if it was
// received.
func (x *explainer) decide() (v admission.Verdict) {
	p, q := &x.p, &x.p.Packet
	out := x.routed(q.Tuple.Src)
	p.Record.Out = out
	p.Protected = out || x.routed(q.Tuple.Dst)

	switch {
	case p.Forwarded:
		p.BadChecksum = false
	case out:
		action, reason := admission.Drop, verdict.EgressDropped
		if d := (packet.Packet{}); d.DecodeTCP(x.data) && x.judge.Egress(&d, p.Record.Length-d.Payload) {
			action, reason = admission.Pass, admission.ReasonFlow.String()
		}
		p.Record.Verdict, p.Record.Reason = action.String(), reason
		p.description = verdict.Describe(true, reason)
	case p.Protected:
		v = x.judge.Admit(q)
		p.Record.Verdict, p.Record.Reason = v.Action.String(), verdict.Reason(q, v)
		p.description = v.Reason.Description()
	}
	return v
}

// inconclusive reports whether a verdict depends on the part that is missing of
// a packet, given the number of bytes that the capture has.
func (x *explainer) inconclusive(v admission.Verdict, kept int) bool {
	q := &x.p.Packet
	switch {
	case q.DropReason != packet.NotDropped:
		return true // perhaps because of the zeros
	case q.Proto == packet.UDP:
		return v.Action == admission.Hold ||
			v.Reason == admission.ReasonNotKnock && len(q.Data)-q.Payload <= protocol.MaxKnock && x.isKnockPort(q.Tuple)
	case q.Proto == packet.TCP: // a SYN may be a knock by its options
		return kept < q.Payload && (v.Action == admission.Hold || v.Reason == admission.ReasonNoGrant)
	}
	return false
}

// isKnockPort reports whether datagrams to this destination may be knocks.
func (x *explainer) isKnockPort(t packet.Tuple) bool {
	if t.DstPort == x.cfg.Knock.UDPPort {
		return true
	}
	to := t.Dst.Netip()
	return slices.ContainsFunc(x.cfg.Services, func(s config.Service) bool { return s.Port == t.DstPort && s.Listen.Contains(to) })
}

// routed reports whether packets to an address are routed to the device.
func (x *explainer) routed(a packet.Addr) bool {
	if a == (packet.Addr{}) {
		return false
	}
	addr := a.Netip()
	return slices.ContainsFunc(x.cfg.TUN.Routes, func(r netip.Prefix) bool { return r.Contains(addr) }) ||
		slices.ContainsFunc(x.cfg.Services, func(s config.Service) bool { return s.Listen.Contains(addr) })
}
