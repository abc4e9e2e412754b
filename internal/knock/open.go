package knock

import (
	"errors"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// open finds the client of a knock and verifies everything but its novelty.
func (w *Worker) open(k *Item, a *attempt) {
	*a = attempt{slow: !k.fast, nonce: k.match.nonce}
	a.Src = k.src
	a.Event = Event{Result: UnknownClient, Source: k.src.Netip()}
	switch {
	case k.size == 0:
		w.openSYN(k, a)
	case k.match.kind == kindV2:
		w.openV2(k, a)
	default:
		w.openV1(k, a)
	}
	if a.Event.Result == OK && !a.client.MayBegin(w.p.now()) {
		a.Event.Result = OutsideSchedule
	}
}

// openV1 tries the clients of the services that a v1 datagram may be for: those
// that its source knocked as lately, then, at the price of a full trial, all.
func (w *Worker) openV1(k *Item, a *attempt) {
	knock, err := protocol.ParseKnock(k.data[:k.size])
	if err != nil {
		return
	}
	pol := w.p.policy()
	if k.fast {
		if w.tryKnown(&knock, k, a, pol) {
			return
		}
		// Another client from there, or junk: it costs what those of unknown
		// sources cost.
		if !w.allowTrials(k.src, pol.TrialCost(k.dst, k.port, ClientsPerSource).All) {
			a.Event.Result = BudgetExceeded
			w.tryForbidden(&knock, k, a, pol)
			return
		}
	}

	for svc := range pol.ServicesV1(k.dst, k.port) {
		found := false
		svc.EachKey(func(key *policy.ClientKey) bool {
			found = w.tryV1(&knock, svc, key, a, pol)
			return !found
		})
		if found {
			return
		}
	}
	w.tryForbidden(&knock, k, a, pol)
}

// tryKnown tries the clients as which the source knocked lately.
func (w *Worker) tryKnown(knock *protocol.Knock, k *Item, a *attempt, pol *policy.Policy) bool {
	w.p.mu.Lock()
	ids := w.p.Known.Clients(k.src)
	w.p.mu.Unlock()
	for svc := range pol.ServicesV1(k.dst, k.port) {
		for _, id := range ids {
			for _, key := range svc.KeysOf(id) {
				if w.tryV1(knock, svc, key, a, pol) {
					return true
				}
			}
		}
	}
	return false
}

// allowTrials charges trials with n keys to an unknown source.
func (w *Worker) allowTrials(src packet.Addr, n int) bool {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.Limiter.allowUnknown(src, n, w.p.mono())
}

// tryForbidden tries the clients that may not use the services that a v1
// datagram may be for, so that the operator is told what is wrong: those as
// which the source knocked lately, and the others as far as the budget for that
// allows.
func (w *Worker) tryForbidden(knock *protocol.Knock, k *Item, a *attempt, pol *policy.Policy) {
	w.p.mu.Lock()
	ids := w.p.Known.Clients(k.src)
	all := w.p.Limiter.allowReport(pol.NumKeys(), w.p.mono())
	w.p.mu.Unlock()
	for svc := range pol.ServicesV1(k.dst, k.port) {
		for h := range pol.Unauthorized(svc, ids[:], all) {
			for _, key := range h.Keys {
				if !w.tryV1(knock, svc, key, a, pol) {
					continue
				}
				if a.Event.Result != Stale && a.Event.Result != OutsideSchedule {
					a.Event.Result = Forbidden
				}
				a.part = nil
				return
			}
		}
	}
}

// tryV1 tries one key; it reports whether the search is over.
func (w *Worker) tryV1(knock *protocol.Knock, svc *policy.Service, key *policy.ClientKey, a *attempt, pol *policy.Policy) bool {
	w.p.trials.Add(1)
	if !knock.Match(w.scratch, key.Identity, svc.MACPort) {
		return false
	}
	m, err := knock.Open(w.scratch, key.Identity, svc.MACPort)
	if errors.Is(err, protocol.ErrSealed) || errors.Is(err, protocol.ErrClientHash) {
		return false // a hint is only 8 bytes, and two clients may share a secret
	}

	now := w.p.now()
	a.found(key, svc, methodName(m.Method))
	if err == nil {
		a.timed(m.Time, now)
	}
	if !key.Valid(now) {
		a.Event.Result = OutsideSchedule
		return true
	}
	if err != nil {
		a.Event.Result = Malformed
		return true
	}

	a.Event.Session = string(m.SessionID)
	a.claim, a.key = replay.KindUDP, append(a.buffer[:0], knock.Nonce()...)
	a.Event.Result = validate(svc, &m, a.Event.Skew, pol)
	if a.Event.Result == OK && m.Sequence() {
		a.part = newUDPPart(&m)
	}
	return true
}

// openV2 opens a udp-v2 datagram, whose client the table has named.
func (w *Worker) openV2(k *Item, a *attempt) {
	pol := w.p.policy()
	t := k.match.template
	key, svc := k.match.resolve(pol)
	if key == nil {
		return
	}
	a.found(key, svc, protocol.MethodUDPv2)
	knock, err := protocol.ParseKnockV2(k.data[:k.size])
	if err != nil {
		a.Event.Result = Malformed
		return
	}

	m, err := knock.Open(w.scratch, t.Key.Identity, pol.Gateway(), t.Port, k.match.slot)
	now := w.p.now()
	switch {
	case err != nil && errors.Is(err, protocol.ErrSealed):
		// A hint that was copied off the wire proves nothing.
		a.Event = Event{Result: UnknownClient, Source: a.Event.Source}
		return
	case err != nil:
		a.Event.Result = Malformed
		return
	}
	a.timed(m.Time, now)
	if !key.Valid(now) {
		a.Event.Result = OutsideSchedule
		return
	}

	a.Event.Session = string(m.Session())
	a.Port = m.SourcePort
	a.claim, a.key = replay.KindUDPv2, append(a.buffer[:0], knock.Nonce()...)
	switch {
	case a.Event.Skew.Abs() > pol.Window():
		a.Event.Result = Stale
	case k.match.forbidden:
		a.Event.Result = Forbidden
	case !m.AllowsSource(k.src.Netip()):
		a.Event.Result = WrongSource
	case a.Service.SessionRequired && a.Event.Session == "" && a.Service.Authenticates():
		a.Event.Result = NoSession
	default:
		a.Event.Result = OK
	}
}

// openSYN decides a SYN knock that is complete. There is nothing to open: the
// match proves it.
func (w *Worker) openSYN(k *Item, a *attempt) {
	key, svc := k.match.resolve(w.p.policy())
	if key == nil {
		return
	}
	if k.match.forbidden {
		a.found(key, svc, protocol.MethodTCPSYN)
		a.Event.Result = Forbidden
		return
	}

	method := protocol.MethodTCPSYN
	if k.match.kind != kindSYN {
		method = protocol.MethodTCPSYNSeq
	}
	a.found(key, svc, method)
	if !key.Valid(w.p.now()) || !key.Client.MayBegin(w.p.now()) {
		a.Event.Result = OutsideSchedule
		return
	}
	a.Event.Result, a.Event.Err = w.claimSYN(k)
}

// found names the client of a knock and the service that it is for.
func (a *attempt) found(k *policy.ClientKey, s *policy.Service, method string) {
	a.Key, a.client, a.Service = k.Identity, k.Client, s
	a.Event.Client, a.Event.Service, a.Event.Method = k.Client.ID, s.Name, method
}

// timed notes the time that an opened message names.
func (a *attempt) timed(ms int64, now time.Time) {
	a.Event.Skew, a.Event.Timed = protocol.ClockOffset(ms, now), true
}
