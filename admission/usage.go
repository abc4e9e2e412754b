package admission

import (
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// A Usage is how much of a table, a queue or a budget is used, and its limit.
// Of a limit for each source, client or the like, Used is the largest count of
// any.
type Usage struct {
	Resource    string // fit for a metric label
	Used, Limit int
}

// storeUsage is a replay store that has limits of its own.
type storeUsage interface{ Usage() []replay.Usage }

// Usage returns the usage of everything in the gate that unauthorized hosts or
// clients could fill, and of its store. It examines all tables, a batch at a
// time.
func (g *Gate) Usage() []Usage {
	g.fragments.mu.Lock()
	packets, bytes := g.fragments.r.Usage()
	g.fragments.mu.Unlock()
	fast, slow, queueLimit := g.knocks.Queued()

	g.mu.Lock()
	l, c, pol := &g.limits, &g.flows, g.policy.Load()
	m := g.sources.peaks(pol)
	var b batch
	perSequence := 0
	g.knocks.SourcesPerSequence(func(n int) {
		perSequence = max(perSequence, n)
		b.yield(&g.mu)
	})
	halfOpen := 0
	for _, at := range g.services {
		halfOpen = max(halfOpen, at.pending.n())
	}

	list := []Usage{
		{"eviction_queue_length", max(len(c.evicted), len(c.evictedOpen)), cap(c.evicted)},
		{"fragmented_packets", packets, packet.DefaultMaxDatagrams},
		{"fragment_bytes", bytes, packet.DefaultMaxBytes},
		{"flow_table_entries", len(c.byTuple), l.Flows},
		{"grants", g.sources.grants, l.Grants},
		{"expected_knocks", pol.NumPrecomputed(), policy.MaxPrecomputed},
		{"grants_per_source", m.grantsOfSource, l.GrantsPerSource},
		{"grants_per_client", m.grantsOfClient, l.GrantsPerClient},
		{"flows_per_source", m.flowsOfSource, l.FlowsPerSource},
		{"flows_per_client", m.flowsOfClient, l.FlowsPerClient},
		{"handshakes_per_grant", m.handshakes, HandshakesPerGrant},
		{"handshakes_per_source", m.handshakesOfSource, maxHandshakesPerSource},
		{"handshakes_per_client", m.handshakesOfClient, maxHandshakesPerClient},
		{"hidden_handshakes", c.pendingHidden.handshakes.n(), l.handshakeLimit()},
		{"unauthenticated_flows_per_grant", m.reservations, ReservationsPerGrant},
		{"half_open_flows", halfOpen, l.HalfOpen},
		{"open_service_flows", c.pendingOpen.n(), l.openLimit()},
		{"open_service_connections", c.pendingOpen.established.n(), l.establishedLimit()},
		{"unauthenticated_bytes", c.pendingBytes, maxPendingBytes},
		{"knock_queue_length", max(fast, slow), queueLimit},
		{"knocks_per_source", m.knocks, l.KnocksPerSource},
		{"deferred_syns", g.deferred.n, len(g.deferred.slots)},
		{"deferred_syns_per_source", m.deferred, l.DeferredSYNsPerSource},
		{"known_sources", g.knocks.Known.Len(), knock.MaxKnownSources},
		{"failing_sources", g.bans.sources.Len(), maxFailing},
		{"syn_sequences", g.knocks.SYNSequences(), knock.MaxSYNSequences},
		{"syn_sequences_per_client", perSequence, knock.SourcesPerSYNSequence},
	}
	for _, u := range append(g.knocks.Limiter.Usage(g.mono()), g.knocks.WorkerUsage()...) {
		list = append(list, Usage(u))
	}
	g.mu.Unlock()

	if s, ok := g.store.(storeUsage); ok {
		for _, u := range s.Usage() {
			list = append(list, Usage(u))
		}
	}
	return list
}

// peaks are the largest counts of a single source, client, grant or sequence.
type peaks struct {
	grantsOfSource, flowsOfSource, grantsOfClient, flowsOfClient, knocks, deferred int
	handshakes, handshakesOfSource, handshakesOfClient, reservations               int
}

// addSubnet takes the counts of a subnet into account.
func (m *peaks) addSubnet(n *subnet) {
	m.grantsOfSource = max(m.grantsOfSource, n.grants)
	m.flowsOfSource = max(m.flowsOfSource, n.flows, n.unauthenticated)
	m.handshakesOfSource = max(m.handshakesOfSource, n.handshakes.n())
}

// peaks examines all sources and clients, a batch at a time. A client with a
// limit of its own in pol is left out. The caller holds the lock.
func (t *sourceTable) peaks(pol *policy.Policy) (m peaks) {
	var b batch
	for _, s := range t.byAddr {
		m.knocks, m.deferred = max(m.knocks, s.queued), max(m.deferred, s.deferred)
		m.addSubnet(&s.self)
		for _, gr := range s.grants {
			m.handshakes = max(m.handshakes, gr.pending.handshakes.n())
			m.reservations = max(m.reservations, gr.pending.established.n())
		}
		b.yield(t.mu)
	}

	for _, n := range t.subnets {
		m.addSubnet(n)
		b.yield(t.mu)
	}
	for id, u := range t.clients {
		m.handshakesOfClient = max(m.handshakesOfClient, u.handshakes.n())
		grants, flows := pol.LimitsOf(id)
		if grants == 0 {
			m.grantsOfClient = max(m.grantsOfClient, len(u.grants))
		}
		if flows == 0 {
			m.flowsOfClient = max(m.flowsOfClient, u.flows)
		}
		b.yield(t.mu)
	}
	return m
}
