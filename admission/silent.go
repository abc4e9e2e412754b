package admission

import (
	"time"

	"github.com/knockgw/knockgw/packet"
)

// Flows that idle may wait for a day, and one whose client is gone looks the
// same as one whose client sleeps. So the latter is tried: a flow from whose
// client nothing came for a while, not even an answer to a probe, gives way to
// a new one of its client that would be one too many, and to anybody's when the
// table is nearly full.

const (
	// silentTime is how long nothing must have come from a client for its flow
	// to give way: it has answered none of the stack's probes, one a minute.
	silentTime = 10 * time.Minute
	// silentShare is how full the table may be before such flows give way, in
	// quarters.
	silentShare = 3
)

// evictSilent evicts the flow of a client from which nothing has come for the
// longest time, if that is long enough, and reports whether it did. The caller
// holds g.mu.
func (g *Gate) evictSilent(has *clientUsage) bool {
	f := has.authorized.head
	if f == nil {
		return false
	}
	for other := f.next; other != nil; other = other.next {
		if other.lastHeard < f.lastHeard {
			f = other
		}
	}
	if g.tick-f.lastHeard < silentTime {
		return false
	}
	g.evict(f)
	return true
}

// sweepSilent evicts silent flows of a batch while the table is nearly full: the
// order of a map is random, so the turn of the others comes.
func (g *Gate) sweepSilent() {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, f := range g.flows {
		if len(g.flows) <= g.limits.Flows/4*silentShare || n == sweepBatch {
			return
		}
		if n++; f.state == stateAuthorized && g.tick-f.lastHeard >= silentTime {
			g.evict(f)
		}
	}
}

// InFlight returns how many bytes of a flow's its client has not acknowledged.
func (g *Gate) InFlight(t packet.Tuple) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows[t]; f != nil {
		return int(f.nxt - f.una)
	}
	return 0
}
