package knock

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The life of a knock, in the order of this file:
//
//	packet path   1. length     can a datagram of this size be a knock?          Datagram
//	              2. match      is it in the table of precomputed knocks?        datagramV2, MatchSYN
//	              3. budget     may its source cost this much?                   Limiter
//	              4. queue      copy it; its source is pending from now on       enqueue
//	worker        5. open       find its client's key, verify what it says       open, in open.go
//	              6. replay     record it, so that no copy is accepted           record
//	              7. sequence   wait for the other parts                         udpSequences.add
//	              8. decide     the gate makes the grant                         Options.Done
//
// The first step that fails ends it; the source gets no answer either way.
//
// A client sends its knock and then at once its SYN. The packet path sees both
// in that order and marks the source before it looks at the SYN, so the SYN
// finds the grant, or the source pending. There is no third case.

// Datagram queues a datagram that is or could be a knock; pol is the policy in
// force. It does only what needs no key. d is borrowed.
func (p *Pipeline) Datagram(d *packet.Packet, pol *policy.Policy) Answer {
	methods := pol.MethodsAt(d.Tuple.Dst, d.Tuple.DstPort)
	if methods == 0 {
		return NotService
	}
	payload := d.Data[d.Payload:]
	if methods&policy.MethodUDPv2 != 0 {
		if k, err := protocol.ParseKnockV2(payload); err == nil {
			if a := p.datagramV2(d.Tuple, payload, k.Hint()); a != NotKnock {
				return a
			}
		}
	}
	if methods&policy.MethodsV1 == 0 {
		return NotKnock
	}
	k, err := protocol.ParseKnock(payload)
	if err != nil {
		return NotKnock
	}

	cost := pol.TrialCost(d.Tuple.Dst, d.Tuple.DstPort, ClientsPerSource)
	m := Match{nonce: p.queues.nonceIndex(&k)}
	p.mu.Lock()
	defer p.mu.Unlock()
	src, now := d.Tuple.Src, p.mono()
	if p.queues.pendingNonces[m.nonce] == 0 && p.Known.Known(src, now) {
		if !p.Limiter.allowKnown(src, cost.Known, now) {
			return OverBudget
		}
		return p.enqueue(&p.queues.fast, d.Tuple, payload, m)
	}

	if !p.Limiter.allowUnknown(src, cost.All, now) {
		return OverBudget
	}
	a := p.enqueue(&p.queues.slow, d.Tuple, payload, m)
	if a == Queued {
		p.queues.pendingNonces[m.nonce]++
	}
	return a
}

// datagramV2 queues a datagram of udp-v2's size, if its hint is in the table.
func (p *Pipeline) datagramV2(t packet.Tuple, payload []byte, h protocol.HintV2) Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.lookup(hintFields(h))
	if !ok || m.kind != kindV2 {
		return NotKnock
	}
	m.service, m.forbidden = p.policy().ServiceV2(t.Dst, t.DstPort, m.template)
	if m.service == nil {
		return NotKnock
	}
	if !p.Limiter.allowMatched(t.Src, &m, p.mono()) {
		return OverBudget
	}
	return p.enqueue(&p.queues.fast, t, payload, m)
}

// MatchSYN looks up a SYN to svc, or to a port that is no service's where svc
// is nil. A SYN that matches is a knock and never a connection
// (docs/wire-formats.md, TCP SYN knock and TCP SYN sequence); the caller passes
// it to SYN. The caller holds the lock, under which pol is in force.
func (p *Pipeline) MatchSYN(d *packet.Packet, svc *policy.Service, pol *policy.Policy) (Match, bool) {
	if !pol.Legacy() && (svc == nil || svc.Methods&policy.MethodsSYN == 0) {
		return Match{}, false
	}
	ts, ok := timestamp(d)
	if !ok {
		return Match{}, false
	}
	m, ok := p.lookup(synFields(protocol.SYNFields{Seq: d.Seq, Window: d.Window, TSVal: ts}))
	switch {
	case !ok || m.kind == kindV2:
		return Match{}, false
	case m.kind == kindLegacyPart: // its port may be a service's by chance
		return p.matchLegacy(m, d.Tuple, pol)
	case svc == nil:
		return Match{}, false
	}
	m.service = svc
	m.forbidden = m.kind == kindSYN && m.template.Port == svc.MACPort && svc.Methods&policy.MethodSYN != 0 &&
		svc.Client(m.template.Key.Client.ID) == nil
	return m, m.forbidden || svc.Accepts(m.template, m.kind.method())
}

// timestamp returns TSval of a SYN's Timestamps option (RFC 7323, 3.2).
func timestamp(p *packet.Packet) (uint32, bool) {
	const end, nop, timestamps, size = 0, 1, 8, 10
	o := p.TCPOptions()
	for len(o) > 0 {
		switch {
		case o[0] == end:
			return 0, false
		case o[0] == nop:
			o = o[1:]
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return 0, false
		case o[0] == timestamps && o[1] == size:
			return binary.BigEndian.Uint32(o[2:]), true
		default:
			o = o[o[1]:]
		}
	}
	return 0, false
}

// matchLegacy finds the service of a part of a SYN sequence in the legacy form,
// whose parts have ports of their own. The caller holds the lock.
func (p *Pipeline) matchLegacy(m Match, t packet.Tuple, pol *policy.Policy) (Match, bool) {
	x := m.template
	if m.service = pol.ServiceFor(t.Dst, x, policy.MethodSYNSeq); m.service == nil {
		return Match{}, false
	}
	// The port is not in the table; this is one HMAC, for a sender who knew 80
	// bits.
	_, port := x.Key.Identity.SYNPartLegacy(p.scratch, x.Port, m.slot, m.part)
	return m, port == t.DstPort
}

// SYN queues a SYN knock that was matched, or takes a part of one. The caller
// holds the lock.
func (p *Pipeline) SYN(t packet.Tuple, m *Match) Answer {
	now := p.mono()
	if m.kind != kindSYN && !p.sequences.advance(t.Src, m, p.policy(), now) {
		return PartReceived
	}
	if !p.Limiter.allowMatched(t.Src, m, now) {
		return OverBudget
	}
	a := p.enqueue(&p.queues.fast, t, nil, *m)
	if m.kind != kindSYN && a == Queued {
		p.sequences.finish(m.claimKey())
	}
	return a
}

// enqueue copies a knock into a queue and marks its source as pending. payload
// is empty for SYN knocks. The caller holds the lock.
func (p *Pipeline) enqueue(q *queue, t packet.Tuple, payload []byte, m Match) Answer {
	var k *Item
	select {
	case k = <-q.free:
	default:
		return QueueFull
	}
	if !p.markPending(t.Src) {
		q.free <- k
		return QueueFull
	}

	k.src, k.dst, k.port, k.match = t.Src, t.Dst, t.DstPort, m
	k.size = copy(k.data[:], payload)
	q.ready <- k // never blocks: there are no more entries than room for them
	return Queued
}

// Batch is how many knocks the worker decides between two claims: one write of
// the replay store for all of them. Small enough that the first of a burst does
// not wait noticeably for the last (some 20 microseconds each).
const Batch = 16

// A Worker decides knocks, a batch at a time, in memory of its own. There is
// one for each pipeline: with more, a flood of junk knocks could take every
// processor from the packets.
type Worker struct {
	p         *Pipeline
	scratch   *protocol.Scratch
	attempts  [Batch]attempt
	batch     []replay.Claim
	claims    claims
	sequences udpSequences
	swept     time.Duration
}

// attempt is a knock on its way through the worker.
type attempt struct {
	Decision
	client *policy.Client
	claim  replay.Kind // of the replay key; 0 where it is claimed already
	key    []byte      // the replay key
	part   *udpPart    // of a sequence
	slow   bool        // it came by the slow queue
	nonce  uint16      // of a v1 datagram, in queues.pendingNonces
	buffer [protocol.EnvelopePrefix]byte
}

// NewWorker returns the pipeline's worker.
func (p *Pipeline) NewWorker() *Worker {
	return &Worker{
		p: p, scratch: protocol.NewScratch(), batch: make([]replay.Claim, 0, Batch),
		claims: make(claims), sequences: newUDPSequences(),
	}
}

// Run decides knocks until ctx ends, those of the fast queue first.
func (w *Worker) Run(ctx context.Context) {
	idle := time.NewTicker(sweepInterval)
	defer idle.Stop()
	for {
		var k *Item
		select {
		case k = <-w.p.queues.fast.ready:
		default:
			select {
			case <-ctx.Done():
				return
			case k = <-w.p.queues.fast.ready:
			case k = <-w.p.queues.slow.ready:
			case <-idle.C:
				w.Sweep()
				continue
			}
		}
		w.Process(k)
	}
}

// Step decides a batch of the knocks that wait, and reports whether there were
// any. It is Run for callers that have no goroutine.
func (w *Worker) Step() bool {
	k := w.Next()
	if k != nil {
		w.Process(k)
	}
	return k != nil
}

// Next takes the knock that is decided next out of its queue; nil if none waits.
func (w *Worker) Next() *Item { return w.p.queues.next() }

// Process decides k and what waits behind it in its queue, up to a batch. A
// knock in the fast queue waits for at most one of the slow queue, which takes
// some milliseconds where there are ten thousand clients, never for a batch of
// them.
func (w *Worker) Process(k *Item) {
	n := 0
	for k != nil {
		q := w.p.queues.of(k)
		w.open(k, &w.attempts[n])
		k.match = Match{} // of a policy that may be gone
		q.free <- k
		if n++; n == Batch || !k.fast && len(w.p.queues.fast.ready) > 0 {
			break
		}
		k = q.next()
	}

	w.record(w.attempts[:n])
	for i := range w.attempts[:n] {
		w.finish(&w.attempts[i])
	}
	clear(w.attempts[:n])
	w.Sweep()
}

// record claims the replay keys of the batch's good knocks, so that no copy of
// them is accepted.
func (w *Worker) record(attempts []attempt) {
	batch := w.batch[:0]
	lifetime := 2*w.p.policy().Window() + replayMargin
	for i := range attempts {
		if a := &attempts[i]; a.Event.Result == OK && a.claim != 0 {
			batch = append(batch, replay.Claim{Kind: a.claim, Client: a.client.ID, Nonce: a.key, Lifetime: lifetime})
		}
	}
	if len(batch) == 0 {
		return
	}

	w.p.store.Claim(batch)
	for i := range attempts {
		if a := &attempts[i]; a.Event.Result == OK && a.claim != 0 {
			a.Event.Result, a.Event.Err = claimResult(batch[0].Err)
			batch = batch[1:]
		}
	}
}

// finish follows a sequence, and hands the decision to the gate.
func (w *Worker) finish(a *attempt) {
	if a.part != nil && a.Event.Result == OK {
		a.Event.Result = w.sequences.add(a, w.p.mono(), w.p.policy().Sequence())
	}
	if a.slow {
		w.p.mu.Lock()
		w.p.queues.pendingNonces[a.nonce]--
		w.p.mu.Unlock()
	}
	w.p.done(&a.Decision)
}

// sweepInterval is how often the worker forgets what has expired, and updates
// its usage.
const sweepInterval = time.Second

// Sweep forgets what has expired of the worker's own tables, once every
// sweepInterval.
func (w *Worker) Sweep() {
	now := w.p.mono()
	if now-w.swept < sweepInterval {
		return
	}
	w.swept = now
	w.claims.sweep(now)
	w.sequences.sweep(now)
	w.updateUsage()
}
