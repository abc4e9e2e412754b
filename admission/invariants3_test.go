package admission

import (
	"maps"
	"reflect"

	"github.com/knockgw/knockgw/packet"
)

// checkAccounts verifies what must hold of everything that is counted per client,
// per network and per knock, and of what is remembered. The caller holds the
// gate's lock.
func (w *world) checkAccounts() {
	w.Helper()
	w.checkHoldings()
	w.checkSites()
	w.checkSequences()
	g := w.gate
	if w.checks++; w.checks%64 == 0 {
		w.checkOriginals() // 65,536 of them
	}
	if g.bans.Len() > maxFailing || len(g.seen) > maxSeen || len(w.worker.owners) > maxOwners {
		w.Fatalf("%d offences, %d sources seen, %d owners", g.bans.Len(), len(g.seen), len(w.worker.owners))
	}
	for a, f := range g.bans.All() {
		if f.Count >= g.ban.After || a != a.Subnet() {
			w.Fatalf("failures of %v: %+v", a.Netip(), f)
		}
	}
}

// checkOriginals: as many are counted as there are in the cold lane.
func (w *world) checkOriginals() {
	w.Helper()
	counted := uint32(0)
	for _, n := range w.gate.knocks.originals {
		counted += n
	}
	if there := len(w.gate.knocks.cold.ready); int(counted) != there {
		w.Fatalf("%d originals counted, %d in the cold lane", counted, there)
	}
}

// checkHoldings: every client's holdings are what the tables have of its.
func (w *world) checkHoldings() {
	w.Helper()
	g := w.gate
	grants, flows := map[string]map[*grant]bool{}, map[string]int{}
	for _, s := range g.sources {
		for _, gr := range s.grants {
			if gr.source != s {
				w.Fatalf("a grant at %v says that it is elsewhere", s.addr.Netip())
			}
			if grants[gr.key.ID()] == nil {
				grants[gr.key.ID()] = map[*grant]bool{}
			}
			grants[gr.key.ID()][gr] = true
		}
	}
	for _, f := range g.flows {
		if f.state == live {
			flows[f.key.ID()]++
		}
		if (f.key != nil) != (f.state >= live) && f.state < ending {
			w.Fatalf("flow %v in state %d is of %v", f.tuple, f.state, f.key)
		}
	}
	for client, h := range g.holdings {
		if len(h.grants) == 0 && h.flows == 0 && h.opening.n() == 0 {
			w.Fatalf("holdings of %s are kept for nothing", client)
		}
		have := map[*grant]bool{}
		for _, gr := range h.grants {
			have[gr] = true
		}
		if h.flows != flows[client] || len(have) != len(h.grants) || !maps.Equal(have, grants[client]) && len(have) > 0 {
			w.Fatalf("%s: %d flows counted, %d there; %d grants counted, %d there", client, h.flows, flows[client], len(have), len(grants[client]))
		}
		delete(grants, client)
		delete(flows, client)
	}
	if len(grants)+len(flows) > 0 {
		w.Fatalf("holdings that nobody counts: %v, %v", grants, flows)
	}
}

// checkSites: every network's account is the sum of its sources'.
func (w *world) checkSites() {
	w.Helper()
	want := map[*site]site{}
	for a, s := range w.gate.sources {
		if s.site == nil {
			if len(s.grants)+s.flows > 0 {
				w.Fatalf("source %v is counted nowhere", a.Netip())
			}
			continue
		}
		sum := want[s.site]
		sum.grants += len(s.grants)
		if !a.Is4() {
			sum.sources++
			if w.gate.sites[a.Subnet()] != s.site {
				w.Fatalf("source %v is counted in another network", a.Netip())
			}
		}
		want[s.site] = sum
	}
	for _, f := range w.gate.flows {
		sum := want[f.source.site]
		sum.told++
		if f.state == complete || f.state == live {
			*sum.count(f)++
		}
		want[f.source.site] = sum
	}
	for s, sum := range want {
		have := site{grants: s.grants, flows: s.flows, unproven: s.unproven, sources: s.sources, told: s.told}
		if !reflect.DeepEqual(have, sum) || s.flows > w.gate.limits.FlowsPerSource+len(w.gate.flows) {
			w.Fatalf("a network counts %+v and has %+v", have, sum)
		}
	}
	for net, s := range w.gate.sites {
		if _, ok := want[s]; !ok {
			w.Fatalf("the account of %v is kept for nothing", net.Netip())
		}
	}
}

// checkSequences: what is on its way is in its place and counted.
func (w *world) checkSequences() {
	w.Helper()
	q := &w.gate.sequences
	if len(q.byKey) > maxSYNSequences {
		w.Fatalf("%d SYN sequences", len(q.byKey))
	}
	free := map[*synSequence]bool{}
	for _, s := range q.free {
		if free[s] {
			w.Fatalf("a SYN sequence is free twice")
		}
		free[s] = true
	}
	length := w.gate.policy.Load().Sequence().Length
	for key, s := range q.byKey {
		seen := map[packet.Addr]bool{}
		for _, p := range s.places[:s.n] {
			if seen[p.addr] || p.next < 1 || int(p.next) >= length {
				w.Fatalf("%+v: place %+v", key, p)
			}
			seen[p.addr] = true
		}
		if free[s] || s.n == 0 {
			w.Fatalf("%+v is free, or nobody is in it", key)
		}
	}
	u := &w.worker.sequences
	flying, by := 0, map[packet.Addr]int{}
	for key, s := range u.byKey {
		if !s.done {
			flying++
			by[key.src]++
		}
	}
	if flying != u.inFlight || !maps.Equal(by, u.bySource) || flying > maxUDPSequences || len(u.byKey) > 2*maxUDPSequences {
		w.Fatalf("%d of %d UDP sequences in flight, %d counted; %d sources, %d counted",
			flying, len(u.byKey), u.inFlight, len(by), len(u.bySource))
	}
	for a, n := range by {
		if n > sequencesPerSource {
			w.Fatalf("%v has %d sequences in flight", a.Netip(), n)
		}
	}
}

// forgotten verifies that nothing at all is left of anybody, an hour after.
func (w *world) forgotten() {
	w.Helper()
	w.empty()
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	w.checkOriginals()
	u := &w.worker.sequences
	if n := len(g.holdings) + len(g.sites) + len(g.sequences.byKey) + g.bans.Len() + len(g.seen); n != 0 {
		w.Fatalf("left: %d holdings, %d networks, %d SYN sequences, %d offences, %d sources seen",
			len(g.holdings), len(g.sites), len(g.sequences.byKey), g.bans.Len(), len(g.seen))
	}
	if n := len(w.worker.owners) + len(u.byKey) + len(u.bySource) + u.inFlight; n != 0 {
		w.Fatalf("left: %d owners, %d UDP sequences", len(w.worker.owners), len(u.byKey))
	}
}
