package admission

import (
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// A Usage is a table, a queue or a purse: how much of it is taken, and how much
// there is. Of a limit that counts for each source, client or the like, Now is what
// the one has that has the most.
type Usage struct {
	Resource    string // fit for a metric label
	Used, Limit int
}

// bounded is a replay store that has limits of its own.
type bounded interface{ Usage() []replay.Usage }

// Usage returns everything of the gate that unauthorized hosts or clients could
// fill, and of its store. It scans all tables, a batch at a time.
func (g *Gate) Usage() []Usage {
	list := g.tables()
	l := &g.limits
	most := g.peaks()
	fast, slow, queueLimit := g.knocks.Queued()
	g.mu.Lock()
	list = append(list,
		Usage{"flow_table_entries", len(g.flows), l.Flows},
		Usage{"grants", g.grants, l.Grants},
		Usage{"expected_knocks", g.policy.Load().NumPrecomputed(), policy.MaxPrecomputed},
		Usage{"grants_per_source", most.grantsOfSource, l.GrantsPerSource},
		Usage{"grants_per_client", most.grantsOfClient, l.GrantsPerClient},
		Usage{"flows_per_source", most.flowsOfSource, l.FlowsPerSource},
		Usage{"flows_per_client", most.flowsOfClient, l.FlowsPerClient},
		Usage{"handshakes_per_grant", most.handshakes, HandshakesPerGrant},
		Usage{"handshakes_per_source", most.handshakesOfSource, maxHandshakesPerSource},
		Usage{"handshakes_per_client", most.handshakesOfClient, maxHandshakesPerClient},
		Usage{"hidden_handshakes", g.pendingHidden.handshakes.n(), l.handshakeLimit()},
		Usage{"unauthenticated_flows_per_grant", most.reservations, ReservationsPerGrant},
		Usage{"open_service_flows", g.pendingOpen.n(), l.openLimit()},
		Usage{"open_service_connections", g.pendingOpen.established.n(), l.completeLimit()},
		Usage{"unauthenticated_bytes", g.pendingBytes, maxPendingBytes},
		Usage{"knock_queue_length", max(fast, slow), queueLimit},
		Usage{"knocks_per_source", most.knocks, l.KnocksPerSource},
		Usage{"deferred_syns", g.deferred.n, len(g.deferred.slots)},
		Usage{"deferred_syns_per_source", most.parked, l.DeferredSYNsPerSource},
		Usage{"known_sources", g.knocks.Known.Len(), knock.MaxKnownSources},
		Usage{"failing_sources", g.bans.Len(), maxFailing},
		Usage{"syn_sequences", g.knocks.SYNSequences(), knock.MaxSYNSequences},
		Usage{"syn_sequences_per_client", most.places, knock.SourcesPerSYNSequence},
	)
	halfOpen := 0
	for _, at := range g.services {
		halfOpen = max(halfOpen, at.pending.n())
	}
	list = append(list, Usage{"half_open_flows", halfOpen, l.HalfOpen})
	for _, u := range g.knocks.Limiter.Usage(g.mono()) {
		list = append(list, Usage{u.Resource, u.Used, u.Limit})
	}
	g.mu.Unlock()
	if s, ok := g.store.(bounded); ok {
		for _, u := range s.Usage() {
			list = append(list, Usage{u.Resource, u.Used, u.Limit})
		}
	}
	return list
}

// tables are the bounds of what g.mu does not guard.
func (g *Gate) tables() []Usage {
	g.fragments.mu.Lock()
	packets, bytes := g.fragments.r.Usage()
	g.fragments.mu.Unlock()
	list := []Usage{
		{"eviction_queue_length", max(len(g.evicted), len(g.evictedOpen)), cap(g.evicted)},
		{"fragmented_packets", packets, packet.DefaultMaxDatagrams},
		{"fragment_bytes", bytes, packet.DefaultMaxBytes},
	}
	for _, u := range g.knocks.WorkerUsage() {
		list = append(list, Usage{u.Resource, u.Used, u.Limit})
	}
	return list
}

// peaks is what the greediest one has, by what is limited for each.
type peaks struct {
	grantsOfSource, flowsOfSource, grantsOfClient, flowsOfClient, knocks, parked, places int
	handshakes, handshakesOfSource, handshakesOfClient, reservations                     int
}

// peaks looks at all sources and clients, a batch at a time. A client with a limit of
// its own is not looked at.
func (g *Gate) peaks() (m peaks) {
	g.mu.Lock()
	defer g.mu.Unlock()
	policy := g.policy.Load()
	site := func(s *subnet) {
		m.grantsOfSource, m.flowsOfSource = max(m.grantsOfSource, s.grants), max(m.flowsOfSource, s.flows, s.unauthenticated)
		m.handshakesOfSource = max(m.handshakesOfSource, s.handshakes.n())
	}
	var b batch
	for _, s := range g.sources {
		m.knocks, m.parked = max(m.knocks, s.queued), max(m.parked, s.deferred)
		site(&s.self)
		for _, gr := range s.grants {
			m.handshakes, m.reservations = max(m.handshakes, gr.pending.handshakes.n()), max(m.reservations, gr.pending.established.n())
		}
		b.yield(g)
	}
	for _, s := range g.subnets {
		site(s)
		b.yield(g)
	}
	for id, has := range g.clients {
		m.handshakesOfClient = max(m.handshakesOfClient, has.handshakes.n())
		grants, flows := policy.LimitsOf(id)
		if grants == 0 {
			m.grantsOfClient = max(m.grantsOfClient, len(has.grants))
		}
		if flows == 0 {
			m.flowsOfClient = max(m.flowsOfClient, has.flows)
		}
		b.yield(g)
	}
	g.knocks.SourcesPerSequence(func(n int) {
		m.places = max(m.places, n)
		b.yield(g)
	})
	return m
}
