package admission

import (
	"github.com/knockgw/knockgw/packet"
)

// check verifies the invariants of the gate's tables between two calls: all
// counts match the entries, every flow is in the queue of its state, no
// unreferenced entry is kept, and no limit is exceeded.
func (h *harness) check() {
	h.Helper()
	g := h.gate
	g.mu.Lock()
	defer g.mu.Unlock()

	flows, grants, groups := map[*source]int{}, 0, map[*flowSet]bool{}
	for t, f := range g.flows.byTuple {
		if f.tuple != t {
			h.Fatalf("flow %v is in the table as %v", f.tuple, t)
		}
		h.checkFlow(f)
		if f.source != nil {
			flows[f.source]++
		}
	}
	queued, deferred := 0, 0
	for a, s := range g.sources.byAddr {
		if s.addr != a {
			h.Fatalf("source %v is in the table as %v", s.addr.Netip(), a.Netip())
		}
		if s.flows != flows[s] {
			h.Fatalf("source %v counts %d flows and has %d", a.Netip(), s.flows, flows[s])
		}
		if len(s.grants) == 0 && s.queued == 0 && s.deferred == 0 && s.flows == 0 {
			h.Fatalf("source %v is kept for nothing", a.Netip())
		}
		if s.queued > g.limits.KnocksPerSource || s.deferred > g.limits.DeferredSYNsPerSource || len(s.grants) > g.limits.GrantsPerSource {
			h.Fatalf("source %v exceeds its limits: %+v", a.Netip(), s)
		}
		queued, deferred, grants = queued+s.queued, deferred+s.deferred, grants+len(s.grants)
		delete(flows, s)
		for _, gr := range s.grants {
			h.checkSet(&gr.pending.handshakes, ofGroup, stateHandshake, HandshakesPerGrant)
			h.checkSet(&gr.pending.established, ofGroup, stateEstablished, ReservationsPerGrant)
			groups[&gr.pending.handshakes], groups[&gr.pending.established] = true, true
			if gr.uses < 0 {
				h.Fatalf("%d uses on a grant", gr.uses)
			}
		}
	}
	if len(flows) != 0 {
		h.Fatalf("flows refer to %d sources that are gone", len(flows))
	}
	if grants != g.sources.grants || grants > g.limits.Grants {
		h.Fatalf("%d grants counted, %d there, limit %d", g.sources.grants, grants, g.limits.Grants)
	}
	waiting, err := g.knocks.CheckQueues()
	if err != nil {
		h.Fatalf("%v", err)
	}
	if queued != waiting {
		h.Fatalf("%d knocks counted; %d wait", queued, waiting)
	}
	held := 0
	for _, f := range g.flows.byTuple {
		if set := f.sets.set[ofGroup]; !f.open && set != nil && !groups[set] {
			h.Fatalf("flow %v counts in a grant that is gone", f.tuple)
		}
		held += f.pendingBytes
	}
	if held != g.flows.pendingBytes || held > maxPendingBytes {
		h.Fatalf("%d bytes held, counted %d", held, g.flows.pendingBytes)
	}
	h.checkDeferred(deferred)
	h.checkFree()
	if len(g.flows.byTuple) > g.limits.Flows {
		h.Fatalf("%d flows, limit %d", len(g.flows.byTuple), g.limits.Flows)
	}
	for _, at := range g.services {
		h.checkSet(&at.pending.handshakes, ofGroup, stateHandshake, g.limits.HalfOpen)
		h.checkSet(&at.pending.established, ofGroup, stateEstablished, g.limits.HalfOpen)
		if n := at.pending.n(); n > g.limits.HalfOpen {
			h.Fatalf("%d half-open flows of %s, limit %d", n, at.service.Name, g.limits.HalfOpen)
		}
	}
	h.checkSet(&g.flows.pendingOpen.handshakes, ofAll, stateHandshake, g.limits.openLimit())
	h.checkSet(&g.flows.pendingOpen.established, ofAll, stateEstablished, g.limits.establishedLimit())
	h.checkSet(&g.flows.pendingHidden.handshakes, ofAll, stateHandshake, g.limits.handshakeLimit())
	h.checkSet(&g.flows.pendingHidden.established, ofAll, stateEstablished, g.limits.Flows)
	if n := g.flows.pendingOpen.n(); n > g.limits.openLimit() {
		h.Fatalf("%d flows of open services, limit %d", n, g.limits.openLimit())
	}
	for _, s := range g.sources.byAddr {
		if s.subnet != nil {
			h.checkSet(&s.subnet.handshakes, ofSubnet, stateHandshake, maxHandshakesPerSource)
		}
	}
	for _, has := range g.sources.clients {
		h.checkSet(&has.handshakes, ofClient, stateHandshake, maxHandshakesPerClient)
	}
	h.checkQueue(&g.flows.closing, "ending")
	h.checkQueue(&g.flows.inTimeWait, "closing")
	h.checkAccounts()
}

// checkFlow verifies that a flow that is not live is in a queue, which ends it.
func (h *harness) checkFlow(f *flow) {
	h.Helper()
	switch f.state {
	case stateHandshake, stateEstablished:
		all := &h.gate.flows.pendingHidden
		if f.open {
			all = &h.gate.flows.pendingOpen
		}
		set := &all.handshakes
		if f.state == stateEstablished {
			set = &all.established
		}
		if f.sets.set[ofAll] != set || f.queue != nil {
			h.Fatalf("flow %v, not admitted, is in %v", f.tuple, f.sets)
		}
		if f.open && f.sets.set[ofGroup] == nil {
			h.Fatalf("flow %v is in no set of its service", f.tuple)
		}
		if f.state == stateHandshake && !f.open && (f.sets.set[ofSubnet] == nil || f.sets.set[ofClient] == nil) {
			h.Fatalf("flow %v counts for no source or client", f.tuple)
		}
		if f.source == nil || (f.grant == nil) != f.open {
			h.Fatalf("flow %v of %s has source %v, grant %v", f.tuple, f.service.service.Name, f.source, f.grant)
		}
	case stateAuthorized:
		if f.queue != &h.gate.sources.clients[f.key.ID()].authorized || f.sets != (setMembership{}) || f.pendingBytes != 0 {
			h.Fatalf("live flow %v is not in its client's queue, or in a set: %+v", f.tuple, f)
		}
	case stateClosing:
		if f.queue != &h.gate.flows.closing {
			h.Fatalf("ending flow %v is not in the queue", f.tuple)
		}
	case stateTimeWait:
		if f.queue != &h.gate.flows.inTimeWait {
			h.Fatalf("closing flow %v is not in the queue", f.tuple)
		}
	}
}

// checkSet verifies that each flow of a set knows its index and has the set's
// state.
func (h *harness) checkSet(set *flowSet, kind int, state flowState, limit int) {
	h.Helper()
	if set.n() > limit {
		h.Fatalf("%d flows in a set of kind %d, limit %d", set.n(), kind, limit)
	}
	for i, f := range set.flows {
		if f.sets.set[kind] != set || f.sets.at[kind] != uint32(i) || f.state != state || h.gate.flows.byTuple[f.tuple] != f {
			h.Fatalf("flow %v is %d. in a set of kind %d: %+v", f.tuple, i, kind, f)
		}
	}
}

func (h *harness) checkQueue(q *queue, what string) {
	h.Helper()
	n := 0
	var last *flow
	for f := q.head; f != nil; last, f = f, f.next {
		n++
		if f.queue != q || f.prev != last {
			h.Fatalf("%s: flow %v is linked wrongly", what, f.tuple)
		}
		if h.gate.flows.byTuple[f.tuple] != f {
			h.Fatalf("%s: flow %v is not in the table", what, f.tuple)
		}
	}
	if n != q.n || q.tail != last {
		h.Fatalf("%s: %d flows, counted %d", what, n, q.n)
	}
}

// checkDeferred verifies that every slot is in one list, and the counts of each
// address.
func (h *harness) checkDeferred(counted int) {
	h.Helper()
	k, seen := &h.gate.deferred, map[int32]bool{}
	each := func(from int32, f func(i int32)) (last int32) {
		last = nilIndex
		for i := from; i != nilIndex; last, i = i, k.slots[i].next {
			if seen[i] {
				h.Fatalf("deferral slot %d is in two places", i)
			}
			seen[i] = true
			f(i)
		}
		return last
	}
	each(k.free, func(int32) {})
	deferred := map[packet.Addr]int{}
	if last := each(k.head, func(i int32) { deferred[k.slots[i].src]++ }); last != k.tail {
		h.Fatalf("the deferred SYNs end at %d, not at %d", last, k.tail)
	}
	n := 0
	for a, have := range deferred {
		if s := h.gate.sources.byAddr[a]; s == nil || s.deferred != have {
			h.Fatalf("source %v has %d deferred SYNs: %+v", a.Netip(), have, s)
		}
		n += have
	}
	if n != counted || len(seen) != len(k.slots) {
		h.Fatalf("%d SYNs deferred, %d counted; %d of %d slots in lists", n, counted, len(seen), len(k.slots))
	}
}

// checkFree verifies that free entries refer to nothing and are in no table.
func (h *harness) checkFree() {
	h.Helper()
	seen := map[*source]bool{}
	for _, s := range h.gate.sources.free {
		if seen[s] || h.gate.sources.byAddr[s.addr] == s || len(s.grants)+s.queued+s.deferred+s.flows != 0 {
			h.Fatalf("a free source is in use: %+v", s)
		}
		seen[s] = true
	}
}

// wantEmpty verifies that nothing is left.
func (h *harness) wantEmpty() {
	h.Helper()
	h.check()
	g := h.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.flows.byTuple)+len(g.sources.byAddr)+g.sources.grants+g.flows.pendingOpen.n()+g.flows.pendingHidden.n()+g.flows.pendingBytes+g.flows.closing.n+g.flows.inTimeWait.n != 0 || g.deferred.head != nilIndex {
		h.Fatalf("left: %d flows, %d sources, %d grants, %d ending, %d closing, deferred from %d",
			len(g.flows.byTuple), len(g.sources.byAddr), g.sources.grants, g.flows.closing.n, g.flows.inTimeWait.n, g.deferred.head)
	}
	for _, s := range g.sources.free {
		for _, gr := range s.grants[:cap(s.grants)] {
			if gr != nil {
				h.Fatalf("a free source holds a grant in memory")
			}
		}
	}
}
