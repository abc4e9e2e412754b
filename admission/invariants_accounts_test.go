package admission

import (
	"maps"
	"reflect"
)

// checkAccounts verifies the counts per client, per network and per knock, and
// the state that is remembered. The caller holds the gate's lock.
func (h *harness) checkAccounts() {
	h.Helper()
	h.checkHoldings()
	h.checkSites()
	if err := h.worker.CheckSequences(); err != nil {
		h.Fatalf("%v", err)
	}
	g := h.gate
	if h.checks++; h.checks%64 == 0 {
		h.checkNonces() // 65,536 of them
	}
	if g.bans.sources.Len() > maxFailing {
		h.Fatalf("%d failing sources", g.bans.sources.Len())
	}
	for a, f := range g.bans.sources.All() {
		if f.Count >= g.bans.policy.After || a != a.Subnet() {
			h.Fatalf("failures of %v: %+v", a.Netip(), f)
		}
	}
}

// checkNonces verifies that the counted nonces are those in the slow queue.
func (h *harness) checkNonces() {
	h.Helper()
	if err := h.gate.knocks.CheckNonces(); err != nil {
		h.Fatalf("%v", err)
	}
}

// checkHoldings verifies that the holdings of every client match the tables.
func (h *harness) checkHoldings() {
	h.Helper()
	g := h.gate
	grants, flows := map[string]map[*grant]bool{}, map[string]int{}
	for _, s := range g.sources.byAddr {
		for _, gr := range s.grants {
			if gr.source != s {
				h.Fatalf("a grant at %v says that it is elsewhere", s.addr.Netip())
			}
			if grants[gr.key.ID()] == nil {
				grants[gr.key.ID()] = map[*grant]bool{}
			}
			grants[gr.key.ID()][gr] = true
		}
	}
	for _, f := range g.flows.byTuple {
		if f.state == stateAuthorized {
			flows[f.key.ID()]++
		}
		if (f.key != nil) != (f.state >= stateAuthorized) && f.state < stateClosing {
			h.Fatalf("flow %v in state %d is of %v", f.tuple, f.state, f.key)
		}
	}
	for client, account := range g.sources.clients {
		if len(account.grants) == 0 && account.flows == 0 && account.handshakes.n() == 0 {
			h.Fatalf("holdings of %s are kept for nothing", client)
		}
		have := map[*grant]bool{}
		for _, gr := range account.grants {
			have[gr] = true
		}
		if account.flows != flows[client] || len(have) != len(account.grants) || !maps.Equal(have, grants[client]) && len(have) > 0 {
			h.Fatalf("%s: %d flows counted, %d there; %d grants counted, %d there", client, account.flows, flows[client], len(have), len(grants[client]))
		}
		delete(grants, client)
		delete(flows, client)
	}
	if len(grants)+len(flows) > 0 {
		h.Fatalf("uncounted usage: %v, %v", grants, flows)
	}
}

// checkSites verifies that the account of every network is the sum of its
// sources'.
func (h *harness) checkSites() {
	h.Helper()
	want := map[*subnet]subnet{}
	for a, s := range h.gate.sources.byAddr {
		if s.subnet == nil {
			if len(s.grants)+s.flows > 0 {
				h.Fatalf("source %v is counted nowhere", a.Netip())
			}
			continue
		}
		sum := want[s.subnet]
		sum.grants += len(s.grants)
		if !a.Is4() {
			sum.sources++
			if h.gate.sources.subnets[a.Subnet()] != s.subnet {
				h.Fatalf("source %v is counted in another network", a.Netip())
			}
		}
		want[s.subnet] = sum
	}
	for _, f := range h.gate.flows.byTuple {
		sum := want[f.source.subnet]
		sum.offloaded++
		if f.state == stateEstablished || f.state == stateAuthorized {
			*sum.count(f)++
		}
		want[f.source.subnet] = sum
	}
	for s, sum := range want {
		have := subnet{grants: s.grants, flows: s.flows, unauthenticated: s.unauthenticated, sources: s.sources, offloaded: s.offloaded}
		if !reflect.DeepEqual(have, sum) || s.flows > h.gate.limits.FlowsPerSource+len(h.gate.flows.byTuple) {
			h.Fatalf("a network counts %+v and has %+v", have, sum)
		}
	}
	for net, s := range h.gate.sources.subnets {
		if _, ok := want[s]; !ok {
			h.Fatalf("the account of %v is kept for nothing", net.Netip())
		}
	}
}

// forgotten verifies that no state of any source is left after an hour.
func (h *harness) forgotten() {
	h.Helper()
	h.wantEmpty()
	g := h.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := h.worker.CheckEmpty(); err != nil {
		h.Fatalf("%v", err)
	}
	if n := len(g.sources.clients) + len(g.sources.subnets) + g.bans.sources.Len(); n != 0 {
		h.Fatalf("left: %d holdings, %d networks, %d failing sources", len(g.sources.clients), len(g.sources.subnets), g.bans.sources.Len())
	}
}
