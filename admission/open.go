package admission

import (
	"errors"
	"math"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/tun"
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
	if d.event.Result == KnockOK && !d.client.may(w.now()) {
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
	policy := w.policy.Load()
	if k.warm {
		if w.tryKnown(&knock, k, d, policy) {
			return
		}
		// Somebody else from there, or junk: now it costs what strangers' cost.
		_, cost := policy.knockable(k.dst, k.port)
		if !w.payForScan(k.src, cost.scan) {
			d.event.Result = KnockBudget
			return
		}
	}
	for _, svc := range policy.udp.at(k.port) {
		if svc.Methods&familiesV1 == 0 || !svc.covers(k.dst) {
			continue
		}
		for _, key := range svc.keys {
			if w.tryV1(&knock, svc, key, d, policy) {
				return
			}
		}
	}
}

// tryKnown tries the clients as whom the source knocked lately.
func (w *worker) tryKnown(knock *protocol.Knock, k *queuedKnock, d *decision, policy *Policy) bool {
	w.mu.Lock()
	var ids [seenClients]string
	if s := w.seen[k.src]; s != nil {
		ids = s.ids
	}
	w.mu.Unlock()
	for _, svc := range policy.udp.at(k.port) {
		if svc.Methods&familiesV1 == 0 || !svc.covers(k.dst) {
			continue
		}
		for _, id := range ids {
			c := svc.byID[id]
			if c == nil {
				continue
			}
			for i := range c.Keys {
				if w.tryV1(knock, svc, &key{c, c.Keys[i].Identity, c.Keys[i].Until}, d, policy) {
					return true
				}
			}
		}
	}
	return false
}

func (w *worker) payForScan(src tun.Addr, candidates int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.mono()
	return w.budgets.payCold(src, now) && w.budgets.payScan(candidates, now)
}

// tryV1 tries one key; it reports whether the search is over.
func (w *worker) tryV1(knock *protocol.Knock, svc *Service, key *key, d *decision, policy *Policy) bool {
	w.stats.tried.Add(1)
	if !knock.Match(w.scratch, key.id, svc.MACPort) {
		return false
	}
	m, err := knock.Open(w.scratch, key.id, svc.MACPort)
	if errors.Is(err, protocol.ErrSealed) || errors.Is(err, protocol.ErrClientHash) {
		return false // a hint is only 8 bytes, and two clients may share a secret
	}
	now := w.now()
	if !key.valid(now) {
		return false
	}
	d.found(key.client, svc, methodName(m.Method))
	if err != nil {
		d.event.Result = KnockRefused
		return true
	}
	d.session = string(m.SessionID)
	d.kind, d.nonce = ClaimUDP, append(d.buffer[:0], knock.Nonce()...)
	d.event.Skew = skew(m.Time, now)
	d.event.Result = svc.judge(&m, d.event.Skew, policy)
	if d.event.Result == KnockOK && m.Sequence() {
		d.part = newUDPPart(&m)
	}
	return true
}

// openV2 opens a udp-v2 datagram, whose client the table has named.
func (w *worker) openV2(k *queuedKnock, d *decision) {
	policy := w.policy.Load()
	x := k.hit.expectation
	d.found(x.key.client, k.hit.service, protocol.MethodUDPv2)
	knock, err := protocol.ParseKnockV2(k.data[:k.size])
	if err != nil {
		d.event.Result = KnockRefused
		return
	}
	m, err := knock.Open(w.scratch, x.key.id, policy.gateway, x.port, k.hit.slot)
	now := w.now()
	switch {
	case err != nil && errors.Is(err, protocol.ErrSealed), !x.key.valid(now):
		// A hint that was copied off the wire proves nothing.
		d.event = KnockEvent{Result: KnockUnknown, Source: d.event.Source}
		return
	case err != nil:
		d.event.Result = KnockRefused
		return
	}
	d.session = string(m.Session())
	d.port = m.SourcePort
	d.kind, d.nonce = ClaimUDPv2, append(d.buffer[:0], knock.Nonce()...)
	d.event.Skew = skew(m.Time, now)
	switch {
	case d.event.Skew.Abs() > policy.window:
		d.event.Result = KnockStale
	case !m.AllowsSource(k.src.Netip()):
		d.event.Result = KnockSource
	case d.service.SessionRequired && d.session == "" && d.service.Authenticates():
		d.event.Result = KnockNoSession
	default:
		d.event.Result = KnockOK
	}
}

// found names the client of a knock and what it is for.
func (d *decision) found(c *Client, s *Service, method string) {
	d.client, d.service = c, s
	d.event.Client, d.event.Service, d.event.Method = c.ID, s.Name, method
}

// skew is a message's time, in Unix milliseconds, less ours, to the millisecond
// that is on the wire: the window is inclusive, and must not end within one. A
// difference too large for a Duration is the largest.
func skew(ms int64, now time.Time) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	diff := ms - now.UnixMilli() // neither is negative on a clock after 1970: no overflow
	return time.Duration(min(max(diff, -most), most)) * time.Millisecond
}

// methodName is what a knock calls its method, if it is a name that exists: it
// may end up in a metric's label.
func methodName(method string) string {
	if name, err := protocol.ParseMethod(method); err == nil && name == method {
		return method
	}
	return "other"
}

// judge verifies what an authentic v1 knock says against the service.
func (s *Service) judge(m *protocol.KnockMessage, skew time.Duration, p *Policy) KnockResult {
	switch {
	case !s.allows(m):
		return KnockMethod
	case m.Sequence() && int(m.Total) != p.sequence.Length:
		return KnockRefused
	case s.SessionRequired && len(m.SessionID) == 0 && s.Authenticates():
		return KnockNoSession
	case skew.Abs() > p.window:
		return KnockStale
	}
	return KnockOK
}

// allows tells whether the service takes the method that a knock names, which
// must be one that its form is of.
func (s *Service) allows(m *protocol.KnockMessage) bool {
	switch protocol.MethodFamily(m.Method) {
	case protocol.MethodUDP:
		return s.Methods&FamilyUDP != 0 && !m.Sequence()
	case protocol.MethodUDPSeq:
		return s.Methods&FamilyUDPSeq != 0 && m.Sequence()
	default:
		return false
	}
}
