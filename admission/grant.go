package admission

import (
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// A grant is what a knock made: its client may open uses connections to the
// service from the source until it expires.
type grant struct {
	key      *protocol.Client // the client that knocked, and by which secret
	service  *serviceState
	source   *source
	session  string // the session id that authentication must name; "" allows any
	port     uint16 // the only source port that it admits; 0 for any
	expires  time.Duration
	uses     int          // left
	claiming int          // uses taken that are given back if their claim fails
	pending  pendingFlows // flows admitted on it
	revoked  bool         // its client may not use the service any more
}

// usable reports whether the grant admits a SYN from port at now.
func (gr *grant) usable(port uint16, now time.Duration) bool {
	return gr.uses > 0 && now <= gr.expires && (gr.port == 0 || gr.port == port)
}

// validFor reports whether a flow admitted at then may still be authorized on
// the grant at now: a reservation outlives the TTL by the authentication
// deadline.
func (gr *grant) validFor(then, now time.Duration) bool {
	return gr.uses > 0 && then <= gr.expires && now <= gr.expires+gr.service.service.AuthDeadline
}

// expired reports whether the grant can admit or authorize no flow any more.
func (gr *grant) expired(now time.Duration) bool {
	if gr.revoked || gr.claiming > 0 {
		return gr.revoked
	}
	return gr.pending.n() == 0 && gr.uses == 0 || now > gr.expires+gr.service.service.AuthDeadline
}

// available is how many more flows can be admitted on the grant without
// competing for its uses. It is negative where more SYNs than that came.
func (gr *grant) available() int { return min(gr.uses, ReservationsPerGrant) - gr.pending.n() }

// grantForSYN picks the grant on which a SYN to a service from port is
// admitted: of those that are usable, the one with the most available.
func (s *source) grantForSYN(at *serviceState, port uint16, now time.Duration) *grant {
	var best *grant
	for _, gr := range s.grants {
		if gr.service == at && gr.usable(port, now) && (best == nil || gr.available() > best.available()) {
			best = gr
		}
	}
	return best
}

// grantForClient finds the grant that f may use up as client with session.
func (s *source) grantForClient(f *flow, client, session string, now time.Duration) *grant {
	var unbound *grant
	for _, gr := range s.grants {
		if gr.service != f.service || gr.key.ID() != client || !gr.validFor(f.admittedAt, now) ||
			gr.port != 0 && gr.port != f.tuple.SrcPort {
			continue
		}
		switch gr.session {
		case session: // preferred to one for any session
			return gr
		case "":
			unbound = gr
		}
	}
	return unbound
}

// noGrant returns why no grant of a client at s fits f.
func (s *source) noGrant(f *flow, client string) error {
	for _, gr := range s.grants {
		if gr.service == f.service && gr.key.ID() == client && gr.session != "" {
			return ErrOtherSession
		}
	}
	return ErrNoGrant
}

// hasGrant reports whether the source has a grant for a service.
func (s *source) hasGrant(at *serviceState) bool {
	for _, gr := range s.grants {
		if gr.service == at {
			return true
		}
	}
	return false
}

// addGrant adds a grant to s. It reports false where the limits forbid it.
func (t *sourceTable) addGrant(s *source, gr *grant, client *policy.Client, now time.Duration) bool {
	t.expireGrants(s, now)
	limit := client.MaxGrants
	if limit == 0 {
		limit = t.limits.GrantsPerClient
	}
	if u := t.clients[client.ID]; u != nil && len(u.grants) >= limit {
		t.expireClient(u, now)
	}
	u, n := t.usageOf(client.ID), t.subnetOf(s)
	if n.grants >= t.limits.GrantsPerSource || t.grants >= t.limits.Grants || len(u.grants) >= limit {
		t.dropIfEmpty(client.ID, u)
		return false
	}

	gr.source = s
	s.grants = append(s.grants, gr)
	t.grants++
	u.grants = append(u.grants, gr)
	n.grants++
	return true
}

// expireClient forgets the grants of a client that have expired, at all sources:
// the sweep may take a while to find them all.
func (t *sourceTable) expireClient(u *clientUsage, now time.Duration) {
	for i := 0; i < len(u.grants); {
		gr := u.grants[i]
		if !gr.expired(now) {
			i++
			continue
		}
		s := gr.source // has gr, so gr goes now, and others may
		t.expireGrants(s, now)
		t.removeIfUnused(s)
		i = 0
	}
}

// expireGrants forgets the grants of s that have expired, and reports whether
// there were any. The caller removes s if it has no further use for it.
func (t *sourceTable) expireGrants(s *source, now time.Duration) bool {
	kept := s.grants[:0]
	for _, gr := range s.grants {
		if !gr.expired(now) {
			kept = append(kept, gr)
			continue
		}

		t.grants--
		u := t.usageOf(gr.key.ID())
		i := slices.Index(u.grants, gr)
		u.grants[i] = u.grants[len(u.grants)-1]
		u.grants[len(u.grants)-1] = nil
		u.grants = u.grants[:len(u.grants)-1]
		s.subnet.grants--
		t.dropIfEmpty(gr.key.ID(), u)

		// The flows end by their own deadlines.
		for _, set := range []*flowSet{&gr.pending.handshakes, &gr.pending.established} {
			for set.n() > 0 {
				set.flows[set.n()-1].leaveSet(ofGroup)
			}
		}
	}
	expired := len(kept) < len(s.grants)
	clear(s.grants[len(kept):])
	s.grants = kept
	return expired
}

// removeIfUsed forgets gr, a grant of s, if that was its last use: where many
// clients knock, the sweep would leave too many of them.
func (t *sourceTable) removeIfUsed(s *source, gr *grant) {
	if now := t.mono(); gr.expired(now) {
		t.expireGrants(s, now)
		t.removeIfUnused(s)
	}
}

// revoke ends the grants of s that match, and returns how many.
func (t *sourceTable) revoke(s *source, match func(*grant) bool) int {
	n := 0
	for _, gr := range s.grants {
		if match(gr) {
			gr.revoked, gr.uses = true, 0
			n++
		}
	}
	if n > 0 {
		t.expireGrants(s, t.mono())
		t.removeIfUnused(s)
	}
	return n
}

// sweep forgets the grants that have expired in a batch of sources. It reports
// whether another batch is worth it: expired grants count against Limits.Grants,
// so they must not outnumber the others.
func (t *sourceTable) sweep() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grants == 0 {
		return false
	}
	// The order of a map is random, so the sources that one sweep does not
	// reach are reached by a later one.
	now, n, expired := t.mono(), 0, 0
	for _, s := range t.byAddr {
		if t.expireGrants(s, now) {
			expired++
		}
		t.removeIfUnused(s)
		if n++; n == sweepBatch {
			return expired > sweepBatch/minYield
		}
	}
	return false
}

// A Grant is what a knock made, as Grants lists it.
type Grant struct {
	Client, Service string
	Source          netip.Addr
	Port            uint16        // the only source port that it admits; 0: any
	Left            time.Duration // until it admits no SYN any more; negative: handshakes begun on it go on
	Uses            int           // left
	Handshakes      int           // under way on it
}

// Grants lists up to limit grants, in no order, a batch of sources at a time.
func (g *Gate) Grants(limit int) (list []Grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	var b batch
	for _, s := range g.sources.byAddr {
		for _, gr := range s.grants {
			if gr.expired(now) {
				continue
			}
			if len(list) == limit {
				return list
			}
			list = append(list, Grant{
				Client: gr.key.ID(), Service: gr.service.service.Name, Source: s.addr.Netip(), Port: gr.port,
				Left: gr.expires - now, Uses: gr.uses, Handshakes: gr.pending.n(),
			})
		}
		b.yield(&g.mu)
	}
	return list
}
