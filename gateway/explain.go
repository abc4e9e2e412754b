package gateway

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// Explained is what became of one packet of a capture.
type Explained struct {
	Number int // in the capture, from 1, as Wireshark counts
	Record capture.Record
	Packet packet.Packet // of Record.Data; its DropReason says what is wrong with it
	// Protected tells that the packet has to do with the configuration at all: it
	// is from or to one of the routed prefixes. Otherwise it has no verdict.
	Protected bool
	// BadChecksum tells that the packet was judged as if its checksum were right:
	// captures of the sending host have packets whose checksum is left to the
	// hardware. One that is wrong on the wire is dropped.
	BadChecksum bool
	// Truncated tells that the capture has the beginning of the packet only; the rest was
	// taken for zeros.
	Truncated bool
	// Unjudged tells that what was cut off decides: whether it was a knock cannot be
	// known, nor whether its headers were in order. It has no verdict.
	Unjudged bool
	// Forwarded tells that the packet is one from before on its way out of a host that
	// forwards it, as captures of all interfaces have it. It has no verdict of its own.
	Forwarded bool
	// Knocks are the knocks that were decided because of this packet.
	Knocks []admission.KnockEvent
	// Parked are the verdicts on SYNs that had waited, which this packet's time
	// or knock has decided.
	Parked []Parked

	words string
}

// Words explain the verdict in a sentence without its beginning; "" where there
// is none.
func (e *Explained) Words() string { return e.words }

// Parked is the end of a SYN that had been held.
type Parked struct {
	Tuple   packet.Tuple
	Verdict admission.Verdict
}

// Explain judges the packets of a capture as a gateway with the configuration
// would have, had it begun with the first of them, by the clock of the capture,
// and hands each to each, until that or the reading fails. The Explained is
// borrowed for the call.
//
// A capture says nothing about who authenticated on a connection that was let
// in, and about replays of what came before it. Nothing is written, and no
// network is touched.
func Explain(cfg *config.Config, r *capture.Reader, each func(*Explained) error) error {
	p, err := policy(cfg, nil)
	if err != nil {
		return err
	}
	x := &explainer{cfg: cfg, passed: passages{seed: maphash.MakeSeed()}}
	x.judge, err = admission.NewJudge(admission.Options{
		Policy: p,
		Store:  replay.NewMemoryStore(replay.Options{Now: x.now, Mono: x.mono}),
		Now:    x.now, Mono: x.mono,
		Deliver:  func(*packet.Packet, admission.Verdict) {},
		Unparked: func(q *packet.Packet, v admission.Verdict) { x.e.Parked = append(x.e.Parked, Parked{q.Tuple, v}) },
		Evicted:  func(packet.Tuple) {},
		Knocked:  func(e admission.KnockEvent) { x.e.Knocks = append(x.e.Knocks, e) },
		Limits:   limits(&cfg.Limits),
		Ban:      admission.Ban(cfg.Ban),
	})
	if err != nil {
		return err
	}
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the capture is cut off after packet %d: %w", x.read+r.Skipped, err)
		}
		if err != nil {
			return err
		}
		x.read++
		x.explain(record, x.read+r.Skipped)
		if err := each(&x.e); err != nil {
			return err
		}
	}
}

// explainer is a capture being explained.
type explainer struct {
	cfg    *config.Config
	judge  *admission.Judge
	passed passages
	read   int // packets so far
	first  time.Time
	at     time.Time // of the current packet; never goes back
	e      Explained
}

func (x *explainer) now() time.Time      { return x.at }
func (x *explainer) mono() time.Duration { return x.at.Sub(x.first) }

// explain judges one packet.
func (x *explainer) explain(r capture.Record, number int) {
	if x.first.IsZero() {
		x.first, x.at = r.Time, r.Time
	}
	if r.Time.After(x.at) {
		x.at = r.Time // captures of several interfaces may be a little out of order
	}
	x.e = Explained{Number: number, Record: r, Forwarded: x.passed.forwarded(&r)}
	p := &x.e.Packet
	kept := len(r.Data)
	x.e.Truncated = kept < r.Length && r.Length <= packet.MaxPacket
	if x.e.Truncated {
		r.Data = append(r.Data, make([]byte, r.Length-kept)...)
	}
	*p = packet.Packet{Data: r.Data, Offload: packet.Offload{ChecksumValid: x.e.Truncated}}
	if p.Parse(); p.DropReason == packet.DropChecksum {
		x.e.BadChecksum = true
		*p = packet.Packet{Data: r.Data, Offload: packet.Offload{ChecksumValid: true}}
		p.Parse()
	}
	x.judge.Settle()
	out := x.routed(p.Tuple.Src)
	x.e.Record.Out = out
	var v admission.Verdict // of a packet that came
	switch {
	case x.e.Forwarded:
		x.e.Protected = out || x.routed(p.Tuple.Dst)
		x.e.BadChecksum = false
	case out:
		x.e.Protected = true
		action, why := admission.Drop, mutedReason
		if q := (packet.Packet{}); q.DecodeTCP(r.Data) && x.judge.Egress(&q, r.Length-q.Payload) {
			action, why = admission.Pass, admission.ReasonFlow.String()
		}
		x.e.Record.Verdict, x.e.Record.Reason = action.String(), why
		x.e.words = wordsOf(true, why)
	case x.routed(p.Tuple.Dst):
		x.e.Protected = true
		v = x.judge.Admit(p)
		x.e.Record.Verdict, x.e.Record.Reason = v.Action.String(), reason(p, v)
		x.e.words = v.Reason.Words()
	}
	x.judge.Settle()
	if x.e.Truncated && x.e.Protected && !x.e.Forwarded && x.cutShort(v, kept) {
		x.e.Unjudged, x.e.Record.Verdict, x.e.Record.Reason, x.e.words, x.e.Knocks = true, "", "", "", nil
	}
}

// cutShort tells that a verdict on a packet of which the capture has kept so many
// bytes hangs on what it has not.
func (x *explainer) cutShort(v admission.Verdict, kept int) bool {
	p := &x.e.Packet
	switch {
	case p.DropReason != packet.NotDropped:
		return true // perhaps of the zeros
	case p.Proto == packet.UDP:
		return v.Action == admission.Hold ||
			v.Reason == admission.ReasonNotKnock && len(p.Data)-p.Payload <= protocol.MaxKnock && x.takesKnocks(p.Tuple)
	case p.Proto == packet.TCP: // a SYN may be a knock by its options
		return kept < p.Payload && (v.Action == admission.Hold || v.Reason == admission.ReasonNoGrant)
	}
	return false
}

// takesKnocks tells whether a datagram goes to where knocks are taken.
func (x *explainer) takesKnocks(t packet.Tuple) bool {
	if t.DstPort == x.cfg.Knock.UDPPort {
		return true
	}
	to := t.Dst.Netip()
	return slices.ContainsFunc(x.cfg.Services, func(s config.Service) bool { return s.Port == t.DstPort && s.Listen.Contains(to) })
}

// reason is a verdict's reason as the metrics call it.
func reason(p *packet.Packet, v admission.Verdict) string {
	if v.Reason == admission.ReasonMalformed {
		return v.Reason.String() + "-" + p.DropReason.String()
	}
	return v.Reason.String()
}

// routed tells whether an address is one of those that are led to the device.
func (x *explainer) routed(a packet.Addr) bool {
	if a == (packet.Addr{}) {
		return false
	}
	addr := a.Netip()
	for _, p := range x.cfg.TUN.Routes {
		if p.Contains(addr) {
			return true
		}
	}
	for i := range x.cfg.Services {
		if x.cfg.Services[i].Listen.Contains(addr) {
			return true
		}
	}
	return false
}
