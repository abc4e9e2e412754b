package admission

import (
	"time"
)

// Idle flows may stay for a day, and a flow whose client is gone looks the same
// as one whose client sleeps. So a flow is evicted if nothing came from its
// client for a while, not even an answer to a probe, where a new flow of its
// client would exceed the limit, or where the table is nearly full.

const (
	// silentTime is how long nothing must have come from a client for its flow
	// to be evicted: it has answered none of the stack's probes, one a minute.
	silentTime = 10 * time.Minute
	// silentShare is how full the table may be before such flows are evicted, in
	// quarters.
	silentShare = 3
)

// evictSilent evicts the flow of a client from which nothing has come for the
// longest time, if that is long enough, and reports whether it did. The caller
// holds g.mu.
func (c *conntrack) evictSilent(has *clientUsage) bool {
	f := has.authorized.head
	if f == nil {
		return false
	}
	for other := f.next; other != nil; other = other.next {
		if other.lastHeard < f.lastHeard {
			f = other
		}
	}
	if c.tick-f.lastHeard < silentTime {
		return false
	}
	c.evict(f)
	return true
}

// sweepSilent evicts silent flows of a batch while the table is nearly full: the
// order of a map is random, so the turn of the others comes.
func (c *conntrack) sweepSilent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, f := range c.byTuple {
		if len(c.byTuple) <= c.limits.Flows/4*silentShare || n == sweepBatch {
			return
		}
		if n++; f.state == stateAuthorized && c.tick-f.lastHeard >= silentTime {
			c.evict(f)
		}
	}
}
