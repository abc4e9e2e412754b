package admission

import (
	"math/rand/v2"

	"github.com/knockgw/knockgw/packet"
)

// What unauthorized hosts can bring about is kept apart from what clients hold.
// Flows that are not authorized are counted in sets, and where a set is full, a
// newer flow evicts another one of the same set:
//
//	open services       each: Limits.HalfOpen; all together: a share of the table
//	hidden services     each grant, each source, each client; all together
//
// Of these, flows whose handshake is not complete go first, since a SYN can be
// forged, and which one is chosen at random: the attacker cannot choose. A
// flow that was admitted on a grant never waits for one of an open service: when
// the table is full, one of those makes room for it.

const (
	// openShare is the part of the flow table, one in so many, that the
	// unauthenticated flows of all open services together may fill.
	openShare = 4
	// completeShare is the part of the table that those of them may fill whose
	// handshake is done: each is an endpoint and a goroutine, 27 KiB.
	completeShare = 16

	// maxHandshakes is how many handshakes with hidden services may be under
	// way: each is an endpoint and a goroutine. Only sources with grants get
	// here.
	maxHandshakes = 4096
	// maxHandshakesPerSource and maxHandshakesPerClient are the shares of an
	// address (in IPv6, a /64) and of the client whose grant it is: with round
	// trips of 100 ms, 5,000 connections a second.
	maxHandshakesPerSource = maxHandshakes / 8
	maxHandshakesPerClient = maxHandshakes / 8
	// HandshakesPerGrant is how many handshakes may be under way on one grant:
	// so many that a client whose address is forged completes its own at the
	// first try, at some thousand forged SYNs a second.
	HandshakesPerGrant = 256
	// ReservationsPerGrant is how many flows on one grant may have completed
	// their handshake without having authenticated; a newer one evicts the
	// oldest, so that a neighbor behind the same NAT can neither take the grant
	// by being first nor block it.
	ReservationsPerGrant = 8

	// segmentOverhead is what the stack keeps of a segment besides its payload,
	// in bytes.
	segmentOverhead = 768
	// maxPendingBytesPerFlow is how many bytes, overhead included, a flow may
	// send before it is authorized: a message of authentication, 1 KiB at most,
	// and what a client may send with it before it hears anything (RFC 6928: 10
	// segments).
	maxPendingBytesPerFlow = 32 << 10
	// maxPendingBytes is how many all such flows together may.
	maxPendingBytes = 64 << 20
	// evictTries is how many flows at most are evicted for the bytes of another.
	evictTries = 4
)

// The sets that a flow may be in at a time, by what they are of.
const (
	ofGroup  = iota // its grant, or its open service
	ofAll           // all hidden services, or all open ones
	ofSubnet        // its source; hidden services
	ofClient        // the client whose grant it is; hidden services
	numSets
)

// A flowSet is a set of flows from which one can be chosen at random. The zero
// value is empty.
type flowSet struct{ flows []*flow }

// setMembership is the sets that a flow is in, and at which index of each.
type setMembership struct {
	set [numSets]*flowSet // nil: in none of that kind
	at  [numSets]uint32
}

func (s *flowSet) n() int { return len(s.flows) }

// add puts f into the set, as its set of that kind.
func (s *flowSet) add(f *flow, kind int) {
	f.sets.set[kind], f.sets.at[kind] = s, uint32(len(s.flows)) // at most Limits.Flows
	s.flows = append(s.flows, f)
}

// leaveSet takes f out of its set of that kind, if it is in one.
func (f *flow) leaveSet(kind int) {
	set, at := f.sets.set[kind], f.sets.at[kind]
	if set == nil {
		return
	}
	list := set.flows
	last := list[len(list)-1]
	list[at] = last
	last.sets.at[kind] = at
	list[len(list)-1] = nil
	set.flows = list[:len(list)-1]
	f.sets.set[kind], f.sets.at[kind] = nil, 0
}

// random returns one of the flows, nil if there is none. The generator is the
// runtime's, whose seed and state an attacker does not know.
func (s *flowSet) random() *flow {
	if len(s.flows) == 0 {
		return nil
	}
	return s.flows[rand.IntN(len(s.flows))] //nolint:gosec // no secret: see above
}

// oldest returns the flow whose handshake was completed first, of a small set.
func (s *flowSet) oldest() *flow {
	var first *flow
	for _, f := range s.flows {
		if first == nil || f.establishedAt < first.establishedAt {
			first = f
		}
	}
	return first
}

// pendingFlows are flows that are not authorized.
type pendingFlows struct {
	handshakes  flowSet // handshake under way
	established flowSet // handshake done, not authenticated
}

func (u *pendingFlows) n() int { return u.handshakes.n() + u.established.n() }

// victim returns the flow that goes when another needs its place; nil if there
// is none.
func (u *pendingFlows) victim() *flow {
	if f := u.handshakes.random(); f != nil {
		return f
	}
	return u.established.random()
}

// openLimit is how many unauthenticated flows of open services there may be, and
// establishedLimit how many of these whose handshake is complete.
func (l *Limits) openLimit() int        { return max(1, l.Flows/openShare) }
func (l *Limits) establishedLimit() int { return max(1, l.Flows/completeShare) }

// handshakeLimit is how many handshakes with hidden services may be under way.
func (l *Limits) handshakeLimit() int { return max(1, min(maxHandshakes, l.Flows/openShare)) }

// list puts a flow that begins into the sets that it counts in. The caller holds
// g.mu.
func (c *conntrack) list(f *flow) {
	if f.grant == nil {
		f.service.pending.handshakes.add(f, ofGroup)
		c.pendingOpen.handshakes.add(f, ofAll)
		return
	}
	f.grant.pending.handshakes.add(f, ofGroup)
	c.pendingHidden.handshakes.add(f, ofAll)
	f.source.subnet.handshakes.add(f, ofSubnet)
	c.sources.usageOf(f.grant.key.ID()).handshakes.add(f, ofClient)
}

// unlist takes f out of all sets.
func (c *conntrack) unlist(f *flow) {
	client := f.sets.set[ofClient] != nil
	for kind := range numSets {
		f.leaveSet(kind)
	}
	if client {
		id := f.grant.key.ID()
		c.sources.dropIfEmpty(id, c.sources.clients[id])
	}
}

// listEstablished moves f to the sets of flows whose handshake is complete, and
// makes room for it there.
func (c *conntrack) listEstablished(f *flow) {
	orphan := f.sets.set[ofGroup] == nil
	c.unlist(f)
	all, group := &c.pendingHidden, (*pendingFlows)(nil)
	switch {
	case f.open:
		all, group = &c.pendingOpen, &f.service.pending
		if all.established.n() >= c.limits.establishedLimit() {
			c.evict(all.established.random())
		}
	case !orphan:
		group = &f.grant.pending
		if group.established.n() >= ReservationsPerGrant {
			c.evict(group.established.oldest())
		}
	}
	all.established.add(f, ofAll)
	if group != nil {
		group.established.add(f, ofGroup)
	}
}

// roomOpen makes room for a flow of an open service, by evicting another such
// flow where their share is full. It reports false where that is impossible.
func (c *conntrack) roomOpen(at *serviceState) bool {
	full := len(c.byTuple) >= c.limits.Flows
	if full && c.inTimeWait.head != nil {
		c.drop(c.inTimeWait.head) // in TIME_WAIT: the least loss
		full = false
	}

	var victim *flow
	switch {
	case at.pending.n() >= c.limits.HalfOpen:
		victim = at.pending.victim()
	case full || c.pendingOpen.n() >= c.limits.openLimit():
		victim = c.pendingOpen.victim()
	default:
		return true
	}
	if victim == nil {
		return false
	}
	c.evictOpen(victim)
	return true
}

// evictOpen evicts a flow of an open service. Its client may complete the
// handshake all the same, if the stack has answered with a SYN cookie.
func (c *conntrack) evictOpen(f *flow) {
	f.service.flooded, f.service.floodedAt = true, c.mono()
	c.offload.CookieMode()
	c.evict(f)
}

// roomHidden makes room for a flow of s on gr. It reports false where that is
// impossible.
func (c *conntrack) roomHidden(gr *grant, s *source) bool {
	var crowd *flowSet
	has := c.sources.clients[gr.key.ID()]
	switch {
	case gr.pending.handshakes.n() >= HandshakesPerGrant:
		crowd = &gr.pending.handshakes
	case has != nil && has.handshakes.n() >= maxHandshakesPerClient:
		crowd = &has.handshakes
	case s.subnet.handshakes.n() >= maxHandshakesPerSource:
		crowd = &s.subnet.handshakes
	case c.pendingHidden.handshakes.n() >= c.limits.handshakeLimit():
		crowd = &c.pendingHidden.handshakes
	}

	full := len(c.byTuple) >= c.limits.Flows
	switch {
	case crowd != nil:
		return c.evictHidden(crowd.random())
	case !full:
		return true
	case c.inTimeWait.head != nil:
		c.drop(c.inTimeWait.head)
		return true
	}
	if f := c.pendingOpen.victim(); f != nil {
		c.evictOpen(f)
		return true
	}
	return c.evictHidden(c.pendingHidden.handshakes.random())
}

// evictHidden evicts f, a flow of a hidden service, unless the stack is behind
// in forgetting those that were evicted before: then it would exceed the limit
// of handshakes.
func (c *conntrack) evictHidden(f *flow) bool {
	if f == nil || len(c.evicted) == cap(c.evicted) {
		return false
	}
	c.evict(f)
	return true
}

// chargeBytes counts what a flow sends before it is authorized, which the stack
// may have to keep until then. It reports whether there is room for that.
func (c *conntrack) chargeBytes(f *flow, p *packet.Packet) bool {
	size := len(p.Data) - p.Payload
	if f.state >= stateAuthorized || size <= 0 {
		return true
	}
	size += segmentOverhead
	if f.pendingBytes+size > maxPendingBytesPerFlow {
		return false
	}
	for try := 0; c.pendingBytes+size > maxPendingBytes; try++ {
		victim := c.pendingOpen.established.random()
		if victim == nil {
			victim = c.pendingHidden.established.random()
		}
		if victim == nil || victim == f || try == evictTries {
			return false
		}
		c.evict(victim)
	}
	f.pendingBytes += size
	c.pendingBytes += size
	return true
}

// releaseBytes takes what f has sent off the count: it is authorized, or gone.
func (c *conntrack) releaseBytes(f *flow) {
	c.pendingBytes -= f.pendingBytes
	f.pendingBytes = 0
}

// sweepPending evicts the flows that were not authorized in time, among a
// bounded number of each set; later calls reach the others.
func (c *conntrack) sweepPending() {
	for i, s := range []struct {
		set   *flowSet
		limit int64
	}{
		{&c.pendingOpen.handshakes, int64(openHandshakeTime)}, {&c.pendingOpen.established, int64(halfOpenTime)},
		{&c.pendingHidden.handshakes, int64(halfOpenTime)}, {&c.pendingHidden.established, int64(halfOpenTime)},
	} {
		for range sweepBatches {
			if !c.sweepSet(s.set, &c.sweptTo[i], s.limit) {
				break
			}
		}
	}
}

// sweepSet looks at a batch of a set, downwards from *at, where it notes how far
// it came. It reports false at the end.
func (c *conntrack) sweepSet(set *flowSet, at *int, limit int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.mono()
	*at = min(*at, set.n())
	if *at == 0 {
		*at = set.n()
	}
	for range sweepBatch {
		if *at == 0 {
			return false
		}
		*at--
		// What takes the place of an evicted flow is the last, which has been
		// looked at.
		if f := set.flows[*at]; int64(now-f.admittedAt) > limit {
			c.evict(f)
			*at = min(*at, set.n())
		}
	}
	return true
}
