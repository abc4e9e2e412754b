package admission

import (
	"slices"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A source is what the gate knows of one address: the grants that it holds, the
// knocks of it that wait to be decided, and its SYNs that wait for them. It
// exists as long as there is any of these.
type source struct {
	addr     packet.Addr
	grants   []*grant // in order of arrival
	queued   int      // its knocks in the queue; it is pending while there are any
	done     uint32   // its knocks decided so far; wraps around
	deferred int      // its parked SYNs
	flows    int      // flows that refer to it
	mtu      pathMTU  // of the path to it, as far as ICMP errors have shown
	subnet   *subnet  // what it is counted against; nil until there is anything to count
	self     subnet   // that, for IPv4
}

// subnet is what limits per source count: an IPv4 address, or an IPv6 /64, of
// which anybody has 2^64 addresses.
type subnet struct {
	grants int
	// Flows whose handshake is done and whose relay is not, for a SYN can be
	// forged: those of clients and on grants, and those of open services that
	// have not authenticated. A neighbor behind the same NAT can bring about
	// the latter, and must not take the room of the former.
	flows, unauthenticated int
	sources                int     // that are counted here; IPv6 only
	offloaded              int     // flows in the table, of which the mirror is told
	handshakes             flowSet // handshakes with hidden services under way
}

// count returns the count of the site that f is in.
func (t *subnet) count(f *flow) *int {
	if f.open && f.state == stateEstablished {
		return &t.unauthenticated
	}
	return &t.flows
}

// admits reports whether another flow may begin at the site, on a grant or not.
func (t *subnet) admits(granted bool, limit int) bool {
	return t.flows < limit && (granted || t.unauthenticated < limit)
}

// subnetOf returns the site of s. The caller holds g.mu.
func (g *Gate) subnetOf(s *source) *subnet {
	switch {
	case s.subnet != nil:
	case s.addr.Is4():
		s.subnet = &s.self
	default:
		net := s.addr.Subnet()
		t := g.subnets[net]
		if t == nil {
			t = new(subnet)
			g.subnets[net] = t
		}
		t.sources++
		s.subnet = t
	}
	return s.subnet
}

// A grant is a knock's fruit: its client may open uses connections to the
// service from the source until it expires.
type grant struct {
	key      *protocol.Client // whose it is, and by which secret
	service  *serviceState
	source   *source
	session  string // the session id that authentication must name; "" takes any
	port     uint16 // the only source port that it lets in; 0 for any
	expires  time.Duration
	uses     int          // left
	claiming int          // uses taken that are given back if their claim fails
	pending  pendingFlows // flows admitted on it
	revoked  bool         // its client may not use the service any more
}

// usable tells whether the grant lets a SYN from port in at now.
func (gr *grant) usable(port uint16, now time.Duration) bool {
	return gr.uses > 0 && now <= gr.expires && (gr.port == 0 || gr.port == port)
}

// validFor tells whether a flow admitted at then may still be let in on the
// grant at now: a reservation outlives the TTL by the authentication deadline.
func (gr *grant) validFor(then, now time.Duration) bool {
	return gr.uses > 0 && then <= gr.expires && now <= gr.expires+gr.service.service.AuthDeadline
}

// expired tells whether nothing can come of the grant any more.
func (gr *grant) expired(now time.Duration) bool {
	if gr.revoked || gr.claiming > 0 {
		return gr.revoked
	}
	return gr.pending.n() == 0 && gr.uses == 0 || now > gr.expires+gr.service.service.AuthDeadline
}

// sourceOf returns the record of an address, making one if need be. The
// records of pending sources are bounded by the knock queue, and come from a
// free list, so that junk from ever new addresses makes no garbage. The caller
// holds g.mu.
func (g *Gate) sourceOf(a packet.Addr) *source {
	if s := g.sources[a]; s != nil {
		return s
	}
	var s *source
	if n := len(g.freeSources); n > 0 {
		s = g.freeSources[n-1]
		g.freeSources = g.freeSources[:n-1]
	} else {
		s = new(source)
	}
	s.addr = a
	g.sources[a] = s
	g.offload.Source(a, true)
	return s
}

// removeIfUnused forgets s if nothing is left of it. The caller holds g.mu.
func (g *Gate) removeIfUnused(s *source) {
	if len(s.grants) > 0 || s.queued > 0 || s.deferred > 0 || s.flows > 0 {
		return
	}
	delete(g.sources, s.addr)
	g.offload.Source(s.addr, false)
	if s.subnet != nil && s.subnet != &s.self {
		if s.subnet.sources--; s.subnet.sources == 0 {
			delete(g.subnets, s.addr.Subnet())
		}
	}
	s.subnet, s.self, s.mtu = nil, subnet{}, pathMTU{}
	if len(g.freeSources) < cap(g.freeSources) {
		g.freeSources = append(g.freeSources, s)
	}
}

// available is how many more flows can be let in on the grant without one of them
// being in the way of another. It is negative where more SYNs than that came.
func (gr *grant) available() int { return min(gr.uses, ReservationsPerGrant) - gr.pending.n() }

// grantForSYN picks the grant on which a SYN to a service from port is reserved: of those
// that hold, the one with the most room. The caller holds g.mu.
func (s *source) grantForSYN(at *serviceState, port uint16, now time.Duration) *grant {
	var best *grant
	for _, gr := range s.grants {
		if gr.service == at && gr.usable(port, now) && (best == nil || gr.available() > best.available()) {
			best = gr
		}
	}
	return best
}

// grantForClient finds the grant that f may use up as client with session. The caller holds g.mu.
func (s *source) grantForClient(f *flow, client, session string, now time.Duration) *grant {
	var unbound *grant
	for _, gr := range s.grants {
		if gr.service != f.service || gr.key.ID() != client || !gr.validFor(f.admittedAt, now) ||
			gr.port != 0 && gr.port != f.tuple.SrcPort {
			continue
		}
		switch gr.session {
		case session: // the very one, if there is a choice
			return gr
		case "":
			unbound = gr
		}
	}
	return unbound
}

// addGrant records what a knock of client has earned. It reports false where the
// limits forbid it. The caller holds g.mu.
func (g *Gate) addGrant(s *source, gr *grant, client *policy.Client, now time.Duration) bool {
	g.expireGrants(s, now)
	most := client.MaxGrants
	if most == 0 {
		most = g.limits.GrantsPerClient
	}
	if has := g.clients[client.ID]; has != nil && len(has.grants) >= most {
		g.expireClient(has, now)
	}
	has, at := g.usageOf(client.ID), g.subnetOf(s)
	if at.grants >= g.limits.GrantsPerSource || g.grants >= g.limits.Grants || len(has.grants) >= most {
		g.dropIfEmpty(client.ID, has)
		return false
	}
	gr.source = s
	s.grants = append(s.grants, gr)
	g.grants++
	has.grants = append(has.grants, gr)
	at.grants++
	return true
}

// clientUsage are what a client has at the moment, from all its addresses.
type clientUsage struct {
	grants     []*grant // in no order
	flows      int
	handshakes flowSet // handshakes with hidden services under way, on its grants
	authorized queue   // its flows, in the order in which they were let in
}

// expireClient forgets the grants of a client that are over, wherever they are:
// the sweep may take a while to find them all. The caller holds g.mu.
func (g *Gate) expireClient(has *clientUsage, now time.Duration) {
	for i := 0; i < len(has.grants); {
		gr := has.grants[i]
		if !gr.expired(now) {
			i++
			continue
		}
		s := gr.source // has gr, so gr goes now, and others may
		g.expireGrants(s, now)
		g.removeIfUnused(s)
		i = 0
	}
}

// usageOf returns a client's holdings, to be changed. The caller holds g.mu.
func (g *Gate) usageOf(client string) *clientUsage {
	h := g.clients[client]
	if h == nil {
		h = new(clientUsage)
		g.clients[client] = h
	}
	return h
}

// dropIfEmpty forgets holdings that are none. The caller holds g.mu.
func (g *Gate) dropIfEmpty(client string, h *clientUsage) {
	if len(h.grants) == 0 && h.flows == 0 && h.handshakes.n() == 0 {
		delete(g.clients, client)
	}
}

// expireGrants forgets the grants of s that are over, and tells whether there
// were any. The caller holds g.mu and releases s if it has no further use for it.
func (g *Gate) expireGrants(s *source, now time.Duration) bool {
	kept := s.grants[:0]
	for _, gr := range s.grants {
		if !gr.expired(now) {
			kept = append(kept, gr)
			continue
		}
		g.grants--
		has := g.usageOf(gr.key.ID())
		i := slices.Index(has.grants, gr)
		has.grants[i] = has.grants[len(has.grants)-1]
		has.grants[len(has.grants)-1] = nil
		has.grants = has.grants[:len(has.grants)-1]
		s.subnet.grants--
		g.dropIfEmpty(gr.key.ID(), has)
		// The flows end by their own deadlines.
		for _, set := range []*flowSet{&gr.pending.handshakes, &gr.pending.established} {
			for set.n() > 0 {
				set.flows[set.n()-1].leaveSet(ofGroup)
			}
		}
	}
	over := len(kept) < len(s.grants)
	clear(s.grants[len(kept):])
	s.grants = kept
	return over
}
