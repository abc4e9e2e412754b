package admission

import (
	"encoding/binary"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/tun"
)

// SYN knocks. A SYN whose fields are expected is a knock and never a
// connection. (PROTOCOL.md, TCP SYN knock, TCP SYN sequence.)

// expectedSYN looks a SYN to svc up. The caller holds g.mu.
func (g *Gate) expectedSYN(p *tun.Packet, svc *Service) (hit, bool) {
	if svc.Methods&familiesSYN == 0 {
		return hit{}, false
	}
	ts, ok := timestamp(p)
	if !ok {
		return hit{}, false
	}
	h, ok := g.lookUp(synKey(protocol.SYNFields{Seq: p.Seq, Window: p.Window, TSVal: ts}))
	if !ok || h.kind != expectSYN && h.kind != expectPart || !svc.takes(h.expectation, h.kind.family()) {
		return hit{}, false
	}
	h.service = svc
	return h, true
}

// admitLegacy judges a SYN to a port that is no service's, where SYN sequences
// are taken in the legacy spelling, whose parts have ports of their own.
func (g *Gate) admitLegacy(p *tun.Packet, policy *Policy) Verdict {
	no := Verdict{Reason: ReasonNotService}
	ts, ok := timestamp(p)
	if !ok {
		return no
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h, ok := g.lookUp(synKey(protocol.SYNFields{Seq: p.Seq, Window: p.Window, TSVal: ts}))
	if !ok || h.kind != expectLegacyPart {
		return no
	}
	x := h.expectation
	if h.service = policy.byMACPort(p.Tuple.Dst, x.port, FamilySYNSeq); h.service == nil || !h.service.takes(x, FamilySYNSeq) {
		return no
	}
	// The port is not in the table; one HMAC, for somebody who knew 80 bits.
	if _, port := x.key.id.SYNPartLegacy(g.scratch, x.port, h.slot, h.part); port != p.Tuple.DstPort {
		return no
	}
	return g.admitSYNKnock(p.Tuple.Src, p.Tuple.Dst, h)
}

// admitSYNKnock takes a SYN knock, or a part of one. The caller holds g.mu.
func (g *Gate) admitSYNKnock(src, dst tun.Addr, h hit) Verdict {
	if h.kind != expectSYN && !g.sequences.progress(src, h, g.policy.Load().sequence.Length, g.mono()) {
		return Verdict{Action: Hold, Reason: ReasonKnockPart}
	}
	return g.queue(&g.knocks.warm, src, dst, 0, nil, h)
}

// openSYN decides a SYN knock that has come whole. There is nothing to open:
// that it was expected is its proof.
func (w *worker) openSYN(k *queuedKnock, d *decision) {
	x := k.hit.expectation
	method := protocol.MethodTCPSYN
	if k.hit.kind != expectSYN {
		method = protocol.MethodTCPSYNSeq
	}
	d.found(x.key.client, k.hit.service, method)
	if !x.key.valid(w.now()) || !x.key.client.may(w.now()) {
		d.event.Result = KnockNotNow
		return
	}
	d.event.Result, d.event.Err = w.own(k)
}

const (
	// synRenewals is how often the owner of a SYN knock may present it again.
	synRenewals = 8
	// synLifetime is how long a SYN knock's key is kept, in slots: it is accepted
	// in three, and one more for clocks that are set.
	synLifetime = 4
	// maxOwners bounds the owners remembered; each is a knock that a client made.
	maxOwners = 1 << 16
)

// ownerKey names what a slot has room for once: one knock of a client for a port.
type ownerKey struct {
	id   *protocol.Client
	port uint16
	kind expectedKind
	slot int64
}

// owner is who presented a knock first, and so may again.
type owner struct {
	src, dst tun.Addr
	renewals int
	expires  time.Duration
}

// owners are a worker's, which alone decides knocks.
type owners map[ownerKey]owner

// own decides whose a SYN knock is. The fields name neither source nor
// destination, so the first pair that presents them owns them.
func (w *worker) own(k *queuedKnock) (KnockResult, error) {
	x := k.hit.expectation
	key := ownerKey{x.key.id, x.port, k.hit.kind, k.hit.slot}
	if o, ok := w.owners[key]; ok {
		switch {
		case o.src != k.src || o.dst != k.dst:
			return KnockReplay, nil
		case !k.hit.service.Authenticates() || o.renewals >= synRenewals || k.hit.kind != expectSYN:
			return KnockRepeat, nil
		}
		o.renewals++
		w.owners[key] = o
		return KnockOK, nil
	}
	if len(w.owners) >= maxOwners {
		return KnockLimit, nil
	}
	lifetime := synLifetime * w.policy.Load().slotTime(k.hit.kind)
	claim := []Claim{{Kind: ClaimSYN, Client: x.key.client.ID, Nonce: synNonce(k.hit), Lifetime: lifetime}}
	if k.hit.kind != expectSYN {
		claim[0].Kind = ClaimSYNSeq
	}
	w.store.Claim(claim)
	if r, err := claimResult(claim[0].Err); r != KnockOK {
		return r, err
	}
	w.owners[key] = owner{src: k.src, dst: k.dst, expires: w.mono() + lifetime}
	return KnockOK, nil
}

// synNonce is a SYN knock's replay key: what makes its fields, but the client,
// and the fields (of a sequence, the last part's), which differ where it has
// several secrets.
func synNonce(h hit) []byte {
	n := make([]byte, 0, 1+2+8+fieldBytes)
	n = append(n, byte(h.kind))
	n = binary.BigEndian.AppendUint16(n, h.expectation.port)
	n = binary.BigEndian.AppendUint64(n, uint64(h.slot))
	n = binary.BigEndian.AppendUint64(n, h.fields.a)
	return binary.BigEndian.AppendUint16(n, h.fields.b)
}

// sweep forgets owners whose slot is over.
func (all owners) sweep(now time.Duration) {
	for key, o := range all {
		if o.expires <= now {
			delete(all, key)
		}
	}
}

// A SYN sequence's progress is kept per client, port and slot, and in it per
// source: whatever somebody sends with a copied first part, he only competes
// with others for the places of that one client in that one slot.
const (
	synSources      = 64   // sources that are on their way through one client's sequence
	maxSYNSequences = 1024 // clients' sequences in all; 3 KiB each
)

// synSequences are the SYN sequences on their way.
type synSequences struct {
	byKey map[ownerKey]*synSequence
	free  []*synSequence
}

// synSequence is one client's sequence in one slot.
type synSequence struct {
	sources [synSources]struct {
		addr tun.Addr
		next uint8 // the part to come
	}
	n       int // places used; then the oldest is taken
	oldest  int
	expires time.Duration
}

func (q *synSequences) init() { q.byKey = make(map[ownerKey]*synSequence) }

// progress takes a part and tells whether it was the last of its sequence. Parts
// come in order; one that was seen already, or that comes too early, is ignored.
// The caller holds the gate's lock.
func (q *synSequences) progress(src tun.Addr, h hit, length int, now time.Duration) bool {
	x := h.expectation
	key := ownerKey{x.key.id, x.port, h.kind, h.slot}
	seq := q.byKey[key]
	if seq == nil {
		if h.part != 0 || len(q.byKey) >= maxSYNSequences {
			return false
		}
		if n := len(q.free); n > 0 {
			seq, q.free = q.free[n-1], q.free[:n-1]
		} else {
			seq = new(synSequence)
		}
		*seq = synSequence{expires: now + sequenceTime}
		q.byKey[key] = seq
	}
	for i := range seq.n {
		p := &seq.sources[i]
		if p.addr != src {
			continue
		}
		if int(p.next) != h.part {
			return false
		}
		p.next++
		return int(p.next) == length
	}
	if h.part != 0 {
		return false
	}
	i := seq.n
	if seq.n < synSources {
		seq.n++
	} else {
		i = seq.oldest
		seq.oldest = (seq.oldest + 1) % synSources
	}
	seq.sources[i].addr, seq.sources[i].next = src, 1
	return false
}

// sequenceTime is how long a sequence's progress is kept: longer than its slot,
// and the neighbours in which it is accepted, can last at the default length.
const sequenceTime = 2 * time.Minute

// sweepSequences forgets SYN sequences that are over.
func (g *Gate) sweepSequences() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	for key, seq := range g.sequences.byKey {
		if seq.expires <= now {
			delete(g.sequences.byKey, key)
			g.sequences.free = append(g.sequences.free, seq)
		}
	}
}
