package admission

import (
	"encoding/binary"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// SYN knocks. A SYN whose fields are expected is a knock and never a
// connection. (docs/wire-formats.md, TCP SYN knock and
// TCP SYN sequence.)

// expectedSYN looks a SYN to svc up. The caller holds g.mu.
func (g *Gate) expectedSYN(p *packet.Packet, svc *policy.Service, pol *policy.Policy) (hit, bool) {
	if svc.Methods&policy.MethodsSYN == 0 && !pol.Legacy() {
		return hit{}, false
	}
	h, ok := g.lookUpSYN(p)
	switch {
	case !ok || h.kind == expectV2:
		return hit{}, false
	case h.kind == expectLegacyPart: // its port is a service's by chance
		return g.legacy(h, p, pol)
	}
	h.service = svc
	h.forbidden = h.kind == expectSYN && h.expectation.Port == svc.MACPort && svc.Methods&policy.MethodSYN != 0 &&
		svc.Client(h.expectation.Key.Client.ID) == nil
	return h, h.forbidden || svc.Accepts(h.expectation, h.kind.family())
}

// lookUpSYN looks up what a SYN with the Timestamps option is expected as.
func (g *Gate) lookUpSYN(p *packet.Packet) (hit, bool) {
	ts, ok := timestamp(p)
	if !ok {
		return hit{}, false
	}
	return g.lookUp(synKey(protocol.SYNFields{Seq: p.Seq, Window: p.Window, TSVal: ts}))
}

// legacy finds the service for which a part of a SYN sequence in the legacy
// spelling is, whose parts have ports of their own. The caller holds g.mu.
func (g *Gate) legacy(h hit, p *packet.Packet, pol *policy.Policy) (hit, bool) {
	x := h.expectation
	if h.service = pol.ServiceFor(p.Tuple.Dst, x, policy.MethodSYNSeq); h.service == nil {
		return hit{}, false
	}
	// The port is not in the table; one HMAC, for somebody who knew 80 bits.
	_, port := x.Key.Identity.SYNPartLegacy(g.scratch, x.Port, h.slot, h.part)
	return h, port == p.Tuple.DstPort
}

// admitLegacy judges a SYN to a port that is no service's.
func (g *Gate) admitLegacy(p *packet.Packet) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	pol := g.policy.Load()
	if h, ok := g.lookUpSYN(p); ok && h.kind == expectLegacyPart {
		if h, ok = g.legacy(h, p, pol); ok {
			return g.admitSYNKnock(p.Tuple, h)
		}
	}
	return Verdict{Reason: ReasonNotService}
}

// admitSYNKnock takes a SYN knock, or a part of one. The caller holds g.mu.
func (g *Gate) admitSYNKnock(t packet.Tuple, h hit) Verdict {
	if h.kind != expectSYN && !g.sequences.progress(t.Src, h, g.policy.Load(), g.mono()) {
		return Verdict{Action: Hold, Reason: ReasonKnockPart}
	}
	if !g.budgets.payFound(t.Src, &h, g.mono()) {
		return Verdict{Reason: ReasonBudget}
	}
	v := g.enqueue(&g.knocks.warm, t, nil, h)
	if h.kind != expectSYN && v.Action == Hold {
		g.sequences.finish(h.owner())
	}
	return v
}

// openSYN decides a SYN knock that has come whole. There is nothing to open:
// that it was expected is its proof.
func (w *worker) openSYN(k *queuedKnock, d *decision) {
	key, svc := standing(w.policy.Load(), &k.hit)
	if key == nil {
		return
	}
	if k.hit.forbidden {
		d.found(key, svc, protocol.MethodTCPSYN)
		d.event.Result = KnockForbidden
		return
	}
	method := protocol.MethodTCPSYN
	if k.hit.kind != expectSYN {
		method = protocol.MethodTCPSYNSeq
	}
	d.found(key, svc, method)
	if !key.Valid(w.now()) || !key.Client.MayBegin(w.now()) {
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

func (h *hit) owner() ownerKey {
	return ownerKey{h.expectation.Key.Identity, h.expectation.Port, h.kind, h.slot}
}

// owner is who presented a knock first, and so may again.
type owner struct {
	src, dst packet.Addr
	renewals int
	expires  time.Duration
}

// owners are a worker's, which alone decides knocks.
type owners map[ownerKey]owner

// own decides whose a SYN knock is. The fields name neither source nor
// destination, so the first pair that presents them owns them.
func (w *worker) own(k *queuedKnock) (KnockResult, error) {
	x := k.hit.expectation
	key := k.hit.owner()
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
	lifetime := synLifetime * slotTime(w.policy.Load(), k.hit.kind)
	claim := []replay.Claim{{Kind: replay.KindSYN, Client: x.Key.Client.ID, Nonce: synNonce(k.hit), Lifetime: lifetime}}
	if k.hit.kind != expectSYN {
		claim[0].Kind = replay.KindSYNSeq
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
	n = binary.BigEndian.AppendUint16(n, h.expectation.Port)
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
