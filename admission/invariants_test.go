package admission

import (
	"github.com/knockgw/knockgw/tun"
)

// check verifies what must hold of the gate's tables between any two calls: all
// counts are those of what is there, every flow is in the queue of its state,
// nothing is kept that nothing refers to, and no limit is exceeded.
func (w *world) check() {
	w.Helper()
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()

	flows, grants, reservations := map[*source]int{}, 0, map[*queue]bool{}
	for t, f := range g.flows {
		if f.tuple != t {
			w.Fatalf("flow %v is in the table as %v", f.tuple, t)
		}
		w.checkFlow(f)
		if f.source != nil {
			flows[f.source]++
		}
	}
	queued, parked := 0, 0
	for a, s := range g.sources {
		if s.addr != a {
			w.Fatalf("source %v is in the table as %v", s.addr.Netip(), a.Netip())
		}
		if s.flows != flows[s] {
			w.Fatalf("source %v counts %d flows and has %d", a.Netip(), s.flows, flows[s])
		}
		if len(s.grants) == 0 && s.queued == 0 && s.parked == 0 && s.flows == 0 {
			w.Fatalf("source %v is kept for nothing", a.Netip())
		}
		if s.queued > g.limits.KnocksPerSource || s.parked > g.limits.ParkedPerSource || len(s.grants) > g.limits.GrantsPerSource {
			w.Fatalf("source %v exceeds its limits: %+v", a.Netip(), s)
		}
		queued, parked, grants = queued+s.queued, parked+s.parked, grants+len(s.grants)
		delete(flows, s)
		for _, gr := range s.grants {
			w.checkQueue(&gr.reserved, "reservations")
			reservations[&gr.reserved] = true
			if gr.reserved.n > ReservationsPerGrant || gr.uses < 0 {
				w.Fatalf("%d reservations and %d uses on a grant", gr.reserved.n, gr.uses)
			}
		}
	}
	if len(flows) != 0 {
		w.Fatalf("flows refer to %d sources that are gone", len(flows))
	}
	if grants != g.grants || grants > g.limits.Grants {
		w.Fatalf("%d grants counted, %d there, limit %d", g.grants, grants, g.limits.Grants)
	}
	waiting := 0
	for _, lane := range []*lane{&g.knocks.warm, &g.knocks.cold} {
		ready, free := len(lane.ready), len(lane.free)
		if ready+free != g.limits.Knocks {
			w.Fatalf("%d knocks wait, %d slots are free of %d", ready, free, g.limits.Knocks)
		}
		waiting += ready
	}
	if queued != waiting {
		w.Fatalf("%d knocks counted; %d wait", queued, waiting)
	}
	for _, f := range g.flows {
		if f.grant != nil && f.queue == &f.grant.reserved && !reservations[f.queue] {
			w.Fatalf("flow %v waits in a grant that is gone", f.tuple)
		}
	}
	w.checkParking(parked)
	w.checkFree()
	if len(g.flows) > g.limits.Flows {
		w.Fatalf("%d flows, limit %d", len(g.flows), g.limits.Flows)
	}
	for _, at := range g.places {
		q := &at.halfOpen
		if w.checkQueue(q, at.service.Name); q.n > g.limits.HalfOpen {
			w.Fatalf("%d half-open flows of %s, limit %d", q.n, at.service.Name, g.limits.HalfOpen)
		}
	}
	w.checkQueue(&g.orphans, "orphans")
	w.checkQueue(&g.ending, "ending")
	w.checkQueue(&g.closing, "closing")
	w.checkAccounts()
}

// checkFlow: a flow that is not live has somewhere to wait, or it would stay for ever.
func (w *world) checkFlow(f *flow) {
	w.Helper()
	switch f.state {
	case opening, complete:
		if f.queue == nil {
			w.Fatalf("flow %v, not let in, waits nowhere", f.tuple)
		}
		if f.source == nil || (f.grant == nil) != f.open {
			w.Fatalf("flow %v of %s has source %v, grant %v", f.tuple, f.place.service.Name, f.source, f.grant)
		}
	case live:
		if f.queue != nil {
			w.Fatalf("live flow %v is in a queue", f.tuple)
		}
	case ending:
		if f.queue != &w.gate.ending {
			w.Fatalf("ending flow %v is not in the queue", f.tuple)
		}
	case closing:
		if f.queue != &w.gate.closing {
			w.Fatalf("closing flow %v is not in the queue", f.tuple)
		}
	}
}

func (w *world) checkQueue(q *queue, what string) {
	w.Helper()
	n := 0
	var last *flow
	for f := q.head; f != nil; last, f = f, f.next {
		n++
		if f.queue != q || f.prev != last {
			w.Fatalf("%s: flow %v is linked wrongly", what, f.tuple)
		}
		if w.gate.flows[f.tuple] != f {
			w.Fatalf("%s: flow %v is not in the table", what, f.tuple)
		}
	}
	if n != q.n || q.tail != last {
		w.Fatalf("%s: %d flows, counted %d", what, n, q.n)
	}
}

// checkParking: every slot is in one list, and each address has as many as it counts.
func (w *world) checkParking(counted int) {
	w.Helper()
	k, seen := &w.gate.park, map[int32]bool{}
	each := func(from int32, f func(i int32)) (last int32) {
		last = none
		for i := from; i != none; last, i = i, k.slots[i].next {
			if seen[i] {
				w.Fatalf("parking slot %d is in two places", i)
			}
			seen[i] = true
			f(i)
		}
		return last
	}
	each(k.free, func(int32) {})
	parked := map[tun.Addr]int{}
	if last := each(k.head, func(i int32) { parked[k.slots[i].src]++ }); last != k.tail {
		w.Fatalf("the parked SYNs end at %d, not at %d", last, k.tail)
	}
	n := 0
	for a, have := range parked {
		if s := w.gate.sources[a]; s == nil || s.parked != have {
			w.Fatalf("source %v has %d parked SYNs: %+v", a.Netip(), have, s)
		}
		n += have
	}
	if n != counted || len(seen) != len(k.slots) {
		w.Fatalf("%d SYNs parked, %d counted; %d of %d slots in lists", n, counted, len(seen), len(k.slots))
	}
}

// checkFree: what waits to be used again refers to nothing and is used by nobody.
func (w *world) checkFree() {
	w.Helper()
	seen := map[*source]bool{}
	for _, s := range w.gate.freeSources {
		if seen[s] || w.gate.sources[s.addr] == s || len(s.grants)+s.queued+s.parked+s.flows != 0 {
			w.Fatalf("a free source is in use: %+v", s)
		}
		seen[s] = true
	}
}

// empty verifies that nothing is left of anybody.
func (w *world) empty() {
	w.Helper()
	w.check()
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.flows)+len(g.sources)+g.grants+g.orphans.n+g.ending.n+g.closing.n != 0 || g.park.head != none {
		w.Fatalf("left: %d flows, %d sources, %d grants, %d ending, %d closing, parked from %d",
			len(g.flows), len(g.sources), g.grants, g.ending.n, g.closing.n, g.park.head)
	}
	for _, s := range g.freeSources {
		for _, gr := range s.grants[:cap(s.grants)] {
			if gr != nil {
				w.Fatalf("a free source holds a grant in memory")
			}
		}
	}
}
