package admission

import (
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// A Bound is a table, a queue or a purse: how much of it is taken, and how much
// there is. Of a limit that counts for each source, client or the like, Now is what
// the one has that has the most.
type Bound struct {
	Of        string // fit for a metric label
	Now, Most int
}

// bounded is a replay store that has limits of its own.
type bounded interface{ Usage() []replay.Usage }

// Bounds returns everything of the gate that unauthorized hosts or clients could
// fill, and of its store. It scans all tables, a batch at a time.
func (g *Gate) Bounds() []Bound {
	list := g.tables()
	l := &g.limits
	most := g.mosts()
	fast, slow, queueLimit := g.knocks.Queued()
	g.mu.Lock()
	list = append(list,
		Bound{"flow_table_entries", len(g.flows), l.Flows},
		Bound{"grants", g.grants, l.Grants},
		Bound{"expected_knocks", g.policy.Load().NumPrecomputed(), policy.MaxPrecomputed},
		Bound{"grants_per_source", most.grantsOfSource, l.GrantsPerSource},
		Bound{"grants_per_client", most.grantsOfClient, l.GrantsPerClient},
		Bound{"flows_per_source", most.flowsOfSource, l.FlowsPerSource},
		Bound{"flows_per_client", most.flowsOfClient, l.FlowsPerClient},
		Bound{"handshakes_per_grant", most.handshakes, HandshakesPerGrant},
		Bound{"handshakes_per_source", most.handshakesOfSource, maxHandshakesPerSource},
		Bound{"handshakes_per_client", most.handshakesOfClient, maxHandshakesPerClient},
		Bound{"hidden_handshakes", g.pendingHidden.opening.n(), l.handshakeLimit()},
		Bound{"unauthenticated_flows_per_grant", most.reservations, ReservationsPerGrant},
		Bound{"open_service_flows", g.pendingOpen.n(), l.openLimit()},
		Bound{"open_service_connections", g.pendingOpen.complete.n(), l.completeLimit()},
		Bound{"unauthenticated_bytes", g.held, maxHeld},
		Bound{"knock_queue_length", max(fast, slow), queueLimit},
		Bound{"knocks_per_source", most.knocks, l.KnocksPerSource},
		Bound{"deferred_syns", g.park.n, len(g.park.slots)},
		Bound{"deferred_syns_per_source", most.parked, l.ParkedPerSource},
		Bound{"known_sources", g.knocks.Known.Len(), knock.MaxKnownSources},
		Bound{"failing_sources", g.bans.Len(), maxFailing},
		Bound{"syn_sequences", g.knocks.SYNSequences(), knock.MaxSYNSequences},
		Bound{"syn_sequences_per_client", most.places, knock.SourcesPerSYNSequence},
	)
	halfOpen := 0
	for _, at := range g.places {
		halfOpen = max(halfOpen, at.pending.n())
	}
	list = append(list, Bound{"half_open_flows", halfOpen, l.HalfOpen})
	for _, u := range g.knocks.Limiter.Usage(g.mono()) {
		list = append(list, Bound{u.Resource, u.Used, u.Limit})
	}
	g.mu.Unlock()
	if s, ok := g.store.(bounded); ok {
		for _, u := range s.Usage() {
			list = append(list, Bound{u.Resource, u.Used, u.Limit})
		}
	}
	return list
}

// tables are the bounds of what g.mu does not guard.
func (g *Gate) tables() []Bound {
	g.frags.mu.Lock()
	packets, bytes := g.frags.r.Usage()
	g.frags.mu.Unlock()
	list := []Bound{
		{"eviction_queue_length", max(len(g.evicted), len(g.evictedOpen)), cap(g.evicted)},
		{"fragmented_packets", packets, packet.DefaultMaxDatagrams},
		{"fragment_bytes", bytes, packet.DefaultMaxBytes},
	}
	for _, u := range g.knocks.WorkerUsage() {
		list = append(list, Bound{u.Resource, u.Used, u.Limit})
	}
	return list
}

// mosts is what the greediest one has, by what is limited for each.
type mosts struct {
	grantsOfSource, flowsOfSource, grantsOfClient, flowsOfClient, knocks, parked, places int
	handshakes, handshakesOfSource, handshakesOfClient, reservations                     int
}

// mosts looks at all sources and clients, a batch at a time. A client with a limit of
// its own is not looked at.
func (g *Gate) mosts() (m mosts) {
	g.mu.Lock()
	defer g.mu.Unlock()
	policy := g.policy.Load()
	site := func(s *site) {
		m.grantsOfSource, m.flowsOfSource = max(m.grantsOfSource, s.grants), max(m.flowsOfSource, s.flows, s.unproven)
		m.handshakesOfSource = max(m.handshakesOfSource, s.opening.n())
	}
	var b batch
	for _, s := range g.sources {
		m.knocks, m.parked = max(m.knocks, s.queued), max(m.parked, s.parked)
		site(&s.own)
		for _, gr := range s.grants {
			m.handshakes, m.reservations = max(m.handshakes, gr.pending.opening.n()), max(m.reservations, gr.pending.complete.n())
		}
		b.next(g)
	}
	for _, s := range g.sites {
		site(s)
		b.next(g)
	}
	for id, has := range g.holdings {
		m.handshakesOfClient = max(m.handshakesOfClient, has.opening.n())
		grants, flows := policy.LimitsOf(id)
		if grants == 0 {
			m.grantsOfClient = max(m.grantsOfClient, len(has.grants))
		}
		if flows == 0 {
			m.flowsOfClient = max(m.flowsOfClient, has.flows)
		}
		b.next(g)
	}
	g.knocks.SourcesPerSequence(func(n int) {
		m.places = max(m.places, n)
		b.next(g)
	})
	return m
}
