package admission

import (
	"maps"
	"reflect"
)

// checkAccounts verifies what must hold of everything that is counted per
// client, per network and per knock, and of what is remembered. The caller
// holds the gate's lock.
func (w *harness) checkAccounts() {
	w.Helper()
	w.checkHoldings()
	w.checkSites()
	if err := w.worker.CheckSequences(); err != nil {
		w.Fatalf("%v", err)
	}
	g := w.gate
	if w.checks++; w.checks%64 == 0 {
		w.checkNonces() // 65,536 of them
	}
	if g.bans.sources.Len() > maxFailing {
		w.Fatalf("%d failing sources", g.bans.sources.Len())
	}
	for a, f := range g.bans.sources.All() {
		if f.Count >= g.bans.policy.After || a != a.Subnet() {
			w.Fatalf("failures of %v: %+v", a.Netip(), f)
		}
	}
}

// checkNonces verifies that the nonces counted are those of the slow queue.
func (w *harness) checkNonces() {
	w.Helper()
	if err := w.gate.knocks.CheckNonces(); err != nil {
		w.Fatalf("%v", err)
	}
}

// checkHoldings: every client's holdings are what the tables have of its.
func (w *harness) checkHoldings() {
	w.Helper()
	g := w.gate
	grants, flows := map[string]map[*grant]bool{}, map[string]int{}
	for _, s := range g.sources.byAddr {
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
	for _, f := range g.flows.byTuple {
		if f.state == stateAuthorized {
			flows[f.key.ID()]++
		}
		if (f.key != nil) != (f.state >= stateAuthorized) && f.state < stateClosing {
			w.Fatalf("flow %v in state %d is of %v", f.tuple, f.state, f.key)
		}
	}
	for client, h := range g.sources.clients {
		if len(h.grants) == 0 && h.flows == 0 && h.handshakes.n() == 0 {
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
		w.Fatalf("uncounted usage: %v, %v", grants, flows)
	}
}

// checkSites: every network's account is the sum of its sources'.
func (w *harness) checkSites() {
	w.Helper()
	want := map[*subnet]subnet{}
	for a, s := range w.gate.sources.byAddr {
		if s.subnet == nil {
			if len(s.grants)+s.flows > 0 {
				w.Fatalf("source %v is counted nowhere", a.Netip())
			}
			continue
		}
		sum := want[s.subnet]
		sum.grants += len(s.grants)
		if !a.Is4() {
			sum.sources++
			if w.gate.sources.subnets[a.Subnet()] != s.subnet {
				w.Fatalf("source %v is counted in another network", a.Netip())
			}
		}
		want[s.subnet] = sum
	}
	for _, f := range w.gate.flows.byTuple {
		sum := want[f.source.subnet]
		sum.offloaded++
		if f.state == stateEstablished || f.state == stateAuthorized {
			*sum.count(f)++
		}
		want[f.source.subnet] = sum
	}
	for s, sum := range want {
		have := subnet{grants: s.grants, flows: s.flows, unauthenticated: s.unauthenticated, sources: s.sources, offloaded: s.offloaded}
		if !reflect.DeepEqual(have, sum) || s.flows > w.gate.limits.FlowsPerSource+len(w.gate.flows.byTuple) {
			w.Fatalf("a network counts %+v and has %+v", have, sum)
		}
	}
	for net, s := range w.gate.sources.subnets {
		if _, ok := want[s]; !ok {
			w.Fatalf("the account of %v is kept for nothing", net.Netip())
		}
	}
}

// forgotten verifies that nothing at all is left, an hour after.
func (w *harness) forgotten() {
	w.Helper()
	w.empty()
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := w.worker.CheckEmpty(); err != nil {
		w.Fatalf("%v", err)
	}
	if n := len(g.sources.clients) + len(g.sources.subnets) + g.bans.sources.Len(); n != 0 {
		w.Fatalf("left: %d holdings, %d networks, %d failing sources", len(g.sources.clients), len(g.sources.subnets), g.bans.sources.Len())
	}
}
