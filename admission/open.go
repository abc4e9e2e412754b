package admission

import (
	"errors"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// open finds the client of a knock and verifies everything but its novelty.
func (w *worker) open(k *queuedKnock, d *decision) {
	*d = decision{src: k.src, cold: !k.warm, place: k.hit.place, event: KnockEvent{Result: KnockUnknown, Source: k.src.Netip()}}
	switch {
	case k.size == 0:
		w.openSYN(k, d)
	case k.hit.kind == expectV2:
		w.openV2(k, d)
	default:
		w.openV1(k, d)
	}
	if d.event.Result == KnockOK && !d.client.MayBegin(w.now()) {
		d.event.Result = KnockNotNow
	}
}

// openV1 tries the clients of the services that a v1 datagram may be for: those
// that its source knocked as lately, then, at the price of a scan, all.
func (w *worker) openV1(k *queuedKnock, d *decision) {
	knock, err := protocol.ParseKnock(k.data[:k.size])
	if err != nil {
		return
	}
	pol := w.policy.Load()
	if k.warm {
		if w.tryKnown(&knock, k, d, pol) {
			return
		}
		// Somebody else from there, or junk: now it costs what strangers' cost.
		if !w.payForScan(k.src, pol.TrialCost(k.dst, k.port, seenClients).All) {
			d.event.Result = KnockBudget
			w.tryForbidden(&knock, k, d, pol)
			return
		}
	}
	for svc := range pol.ServicesV1(k.dst, k.port) {
		found := false
		svc.EachKey(func(key *policy.ClientKey) bool {
			found = w.tryV1(&knock, svc, key, d, pol)
			return !found
		})
		if found {
			return
		}
	}
	w.tryForbidden(&knock, k, d, pol)
}

// tryForbidden tries the clients that may not use the services that a v1 datagram
// may be for, so that their operator is told what is wrong: those as whom the
// source knocked lately, and the others as far as there is time left for that.
func (w *worker) tryForbidden(knock *protocol.Knock, k *queuedKnock, d *decision, pol *policy.Policy) {
	w.mu.Lock()
	var ids [seenClients]string
	if s := w.seen[k.src]; s != nil {
		ids = s.ids
	}
	all := w.budgets.payReport(pol.NumKeys(), w.mono())
	w.mu.Unlock()
	for svc := range pol.ServicesV1(k.dst, k.port) {
		for h := range pol.Unauthorized(svc, ids[:], all) {
			for _, key := range h.Keys {
				if !w.tryV1(knock, svc, key, d, pol) {
					continue
				}
				if d.event.Result != KnockStale && d.event.Result != KnockNotNow {
					d.event.Result = KnockForbidden
				}
				d.part = nil
				return
			}
		}
	}
}

// tryKnown tries the clients as whom the source knocked lately.
func (w *worker) tryKnown(knock *protocol.Knock, k *queuedKnock, d *decision, pol *policy.Policy) bool {
	w.mu.Lock()
	var ids [seenClients]string
	if s := w.seen[k.src]; s != nil {
		ids = s.ids
	}
	w.mu.Unlock()
	for svc := range pol.ServicesV1(k.dst, k.port) {
		for _, id := range ids {
			for _, key := range svc.KeysOf(id) {
				if w.tryV1(knock, svc, key, d, pol) {
					return true
				}
			}
		}
	}
	return false
}

func (w *worker) payForScan(src packet.Addr, candidates int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.budgets.knocks.allow(&w.budgets, src, candidates, w.mono())
}

// tryV1 tries one key; it reports whether the search is over.
func (w *worker) tryV1(knock *protocol.Knock, svc *policy.Service, key *policy.ClientKey, d *decision, pol *policy.Policy) bool {
	w.stats.tried.Add(1)
	if !knock.Match(w.scratch, key.Identity, svc.MACPort) {
		return false
	}
	m, err := knock.Open(w.scratch, key.Identity, svc.MACPort)
	if errors.Is(err, protocol.ErrSealed) || errors.Is(err, protocol.ErrClientHash) {
		return false // a hint is only 8 bytes, and two clients may share a secret
	}
	now := w.now()
	d.found(key, svc, methodName(m.Method))
	if err == nil {
		d.timed(m.Time, now)
	}
	if !key.Valid(now) {
		d.event.Result = KnockNotNow
		return true
	}
	if err != nil {
		d.event.Result = KnockRefused
		return true
	}
	d.session = string(m.SessionID)
	d.kind, d.nonce = replay.KindUDP, append(d.buffer[:0], knock.Nonce()...)
	d.event.Result = judge(svc, &m, d.event.Skew, pol)
	if d.event.Result == KnockOK && m.Sequence() {
		d.part = newUDPPart(&m)
	}
	return true
}

// openV2 opens a udp-v2 datagram, whose client the table has named.
func (w *worker) openV2(k *queuedKnock, d *decision) {
	pol := w.policy.Load()
	x := k.hit.expectation
	key, svc := standing(pol, &k.hit)
	if key == nil {
		return
	}
	d.found(key, svc, protocol.MethodUDPv2)
	knock, err := protocol.ParseKnockV2(k.data[:k.size])
	if err != nil {
		d.event.Result = KnockRefused
		return
	}
	m, err := knock.Open(w.scratch, x.Key.Identity, pol.Gateway(), x.Port, k.hit.slot)
	now := w.now()
	switch {
	case err != nil && errors.Is(err, protocol.ErrSealed):
		// A hint that was copied off the wire proves nothing.
		d.event = KnockEvent{Result: KnockUnknown, Source: d.event.Source}
		return
	case err != nil:
		d.event.Result = KnockRefused
		return
	}
	d.timed(m.Time, now)
	if !key.Valid(now) {
		d.event.Result = KnockNotNow
		return
	}
	d.session = string(m.Session())
	d.port = m.SourcePort
	d.kind, d.nonce = replay.KindUDPv2, append(d.buffer[:0], knock.Nonce()...)
	switch {
	case d.event.Skew.Abs() > pol.Window():
		d.event.Result = KnockStale
	case k.hit.forbidden:
		d.event.Result = KnockForbidden
	case !m.AllowsSource(k.src.Netip()):
		d.event.Result = KnockSource
	case d.service.SessionRequired && d.session == "" && d.service.Authenticates():
		d.event.Result = KnockNoSession
	default:
		d.event.Result = KnockOK
	}
}

// found names the client of a knock and what it is for.
func (d *decision) found(k *policy.ClientKey, s *policy.Service, method string) {
	d.key, d.client, d.service = k.Identity, k.Client, s
	d.event.Client, d.event.Service, d.event.Method = k.Client.ID, s.Name, method
}

// timed notes the time that an opened message says.
func (d *decision) timed(ms int64, now time.Time) {
	d.event.Skew, d.event.Timed = protocol.ClockOffset(ms, now), true
}
