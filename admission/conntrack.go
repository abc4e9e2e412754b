package admission

import (
	"context"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A flow is one admitted TCP connection, in the table by its tuple in the
// direction from the client. Its tcb says which segments it may have (RFC 9293,
// 3.10.7.4; RFC 5961, 3 to 5).
//
//	        SYN admitted            HandshakeDone              Authenticate, or at once
//	(none) --------------> handshake -----------> established -------------------> authorized
//	                          |       3-way            |  by HandshakeDone in          |
//	                          |     handshake          |  ModeKnock                    | RelayDone
//	                          v                        v                               v
//	(none) <------------------ evicted, removed, revoked                            closing
//	   ^                                                          the stack has        |
//	   |     TIME_WAIT is over, or a SYN reuses the tuple         sent the rest        v
//	   '--------------------------------------------------------------------------- timeWait
//
// handshake and established are the states that unauthorized hosts can cause.
// Flows in them are in bounded sets, where a newer flow evicts another one (see
// quota.go). Authorized flows are in the queue of their client.
type flow struct {
	tuple   packet.Tuple
	service *serviceState
	grant   *grant // that it was admitted on; nil in open services
	source  *source
	key     *protocol.Client // its client, and by which secret, once it is authorized
	state   flowState
	mode    policy.Mode // of its service, and
	revoked bool        // in stateTimeWait: only resets leave
	open    bool        // whether that was an open one, when the SYN came: a reload may change both

	tcb

	path          path          // how large its packets may be
	admittedAt    time.Duration // when the SYN came
	lastHeard     time.Duration // when its client last sent something, to sweepInterval
	establishedAt time.Duration // when the handshake was done
	expires       time.Duration // when a flow in stateTimeWait is forgotten

	pendingBytes int           // that it has sent, with overhead, before it was authorized
	sets         setMembership // of flows that are not authorized
	queue        *queue        // of its client, or where it waits for its end
	prev, next   *flow
}

type flowState uint8

const (
	stateHandshake   flowState = iota // SYN admitted, handshake under way
	stateEstablished                  // handshake done, not authenticated yet
	stateAuthorized                   // its client may use the service
	stateClosing                      // the relay is done; the stack's endpoint may not be
	stateTimeWait                     // the stack's endpoint is in TIME_WAIT
)

// queue is a first-in first-out list of flows, linked through the flows
// themselves: a flow is in one queue at most.
type queue struct {
	head, tail *flow
	n          int
}

func (q *queue) push(f *flow) {
	f.queue, f.prev, f.next = q, q.tail, nil
	if q.tail != nil {
		q.tail.next = f
	} else {
		q.head = f
	}
	q.tail = f
	q.n++
}

// unlink takes f out of the queue that it is in, if any.
func (f *flow) unlink() {
	q := f.queue
	if q == nil {
		return
	}
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		q.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		q.tail = f.prev
	}
	q.n--
	f.queue, f.prev, f.next = nil, nil, nil
}

// evictedBacklog is how many evictions may wait to be reported to the stack.
const evictedBacklog = 1024

// conntrack has the flows. The gate's lock guards it.
type conntrack struct {
	mu         *sync.Mutex // the gate's
	limits     *Limits
	mono       func() time.Duration
	offload    Offload
	closeState func(packet.Tuple) CloseState
	onEvicted  func(packet.Tuple)
	timeWait   time.Duration
	sources    *sourceTable

	byTuple       map[packet.Tuple]*flow
	pendingOpen   pendingFlows  // of all open services
	pendingHidden pendingFlows  // of all hidden services
	sweptTo       [4]int        // how far sweepPending came in each of their sets
	pendingBytes  int           // bytes that all of them have sent, with overhead
	closing       queue         // flows in stateClosing, those asked about longest ago first
	inTimeWait    queue         // flows in stateTimeWait, oldest first
	tick          time.Duration // when the table was last swept

	// Flows that the stack has to forget, of hidden services and of open ones: a
	// flood of the latter must not delay the former.
	evicted     chan packet.Tuple
	evictedOpen chan packet.Tuple
}

func (c *conntrack) init(sources *sourceTable, o *Options) {
	*c = conntrack{
		mu: sources.mu, limits: sources.limits, mono: o.Mono, offload: o.Offload,
		closeState: o.CloseState, onEvicted: o.Evicted, timeWait: o.TimeWait, sources: sources,
		byTuple:     make(map[packet.Tuple]*flow),
		evicted:     make(chan packet.Tuple, evictedBacklog),
		evictedOpen: make(chan packet.Tuple, evictedBacklog),
	}
}

// add adds a flow, whose source counts it already.
func (c *conntrack) add(f *flow) {
	c.byTuple[f.tuple] = f
	c.offload.Flow(f.tuple, true)
	n := f.source.subnet
	if n.offloaded++; n.offloaded == 1 {
		c.offload.Subnet(f.source.addr.Subnet(), true)
	}
	c.list(f)
}

// drop removes f from the table and from everything that refers to it. From then
// on its client's segments belong to no flow.
func (c *conntrack) drop(f *flow) {
	f.unlink()
	delete(c.byTuple, f.tuple)
	c.offload.Flow(f.tuple, false)
	s := f.source
	if f.state < stateClosing {
		c.releaseQuota(f)
	}
	if s.subnet.offloaded--; s.subnet.offloaded == 0 {
		c.offload.Subnet(s.addr.Subnet(), false)
	}
	s.flows--
	f.grant = nil
	c.sources.removeIfUnused(s)
}

// evict drops f, and makes the stack forget it too.
func (c *conntrack) evict(f *flow) {
	t, notices := f.tuple, c.evicted
	if f.open {
		notices = c.evictedOpen
	}
	c.drop(f)
	select {
	case notices <- t:
	default: // its own deadline will end it
	}
}

// markEstablished notes that f's handshake is done, which proves its address. It
// reports false where the address has too many such flows; f then only waits for
// its end, and is not counted. SYNs alone do not count, or an attacker who forges
// them could lock the address out.
func (c *conntrack) markEstablished(f *flow) bool {
	n := f.source.subnet
	if !n.admits(!f.open, c.limits.FlowsPerSource) {
		c.releaseQuota(f)
		f.state = stateClosing // its reset may leave
		c.setCloseState(f, EndpointBusy)
		return false
	}

	f.state, f.establishedAt = stateEstablished, c.mono()
	*n.count(f)++
	c.listEstablished(f)
	return true
}

// authorize makes f a flow of client, which has authenticated or knocked with
// key. It reports false where the client has too many flows.
func (c *conntrack) authorize(f *flow, client *policy.Client, key *protocol.Client) bool {
	limit := client.MaxFlows
	if limit == 0 {
		limit = c.limits.FlowsPerClient
	}
	u := c.sources.usageOf(client.ID)
	if u.flows >= limit && c.evictSilent(u) {
		u = c.sources.usageOf(client.ID) // it may have had no other
	}
	n := f.source.subnet
	if u.flows >= limit || f.open && n.flows >= c.limits.FlowsPerSource {
		c.sources.dropIfEmpty(client.ID, u)
		return false
	}

	u.flows++
	*n.count(f)--
	c.unlist(f)
	c.releaseBytes(f)
	u.authorized.push(f)
	f.state, f.key = stateAuthorized, key
	*n.count(f)++
	return true
}

// releaseQuota takes f off the counts of its source and its client: a flow that
// only waits for its end counts against neither.
func (c *conntrack) releaseQuota(f *flow) {
	c.unlist(f)
	c.releaseBytes(f)
	if f.state != stateHandshake {
		*f.source.subnet.count(f)--
	}
	if f.key != nil {
		u := c.sources.usageOf(f.key.ID())
		u.flows--
		c.sources.dropIfEmpty(f.key.ID(), u)
	}
}

// revokeTime is the minimum time that a revoked flow stays in the table.
const revokeTime = time.Second

// revoke ends a flow. An authorized client knows of the service, and would wait
// for minutes if it heard nothing: from now on a reset of its flow may leave,
// and nothing else. The flow stays for as long as in TIME_WAIT, so that
// segments that the client sends because the reset was lost are answered with
// another. The caller then makes the stack abort the flow.
func (c *conntrack) revoke(f *flow) {
	if f.key == nil {
		c.drop(f)
		return
	}
	if f.state < stateClosing {
		c.releaseQuota(f)
	}
	f.unlink()
	f.state, f.revoked = stateTimeWait, true
	f.expires = c.mono() + max(c.timeWait, revokeTime)
	c.inTimeWait.push(f)
}

// setCloseState moves f, which is closing, to where the stack's answer puts it.
func (c *conntrack) setCloseState(f *flow, s CloseState) {
	f.unlink()
	switch s {
	case EndpointClosed:
		c.drop(f)
	case EndpointTimeWait:
		f.state = stateTimeWait
		f.expires = c.mono() + c.timeWait
		c.inTimeWait.push(f)
	case EndpointBusy:
		c.closing.push(f)
	}
}

// pollClosing asks the stack about every flow that was closing when it was
// called, once.
func (c *conntrack) pollClosing() {
	c.mu.Lock()
	left := c.closing.n
	c.mu.Unlock()
	var tuples [sweepBatch]packet.Tuple
	for left > 0 {
		c.mu.Lock()
		n := 0
		for f := c.closing.head; f != nil && n < min(left, sweepBatch); f, n = f.next, n+1 {
			tuples[n] = f.tuple
		}
		c.mu.Unlock()
		if n == 0 {
			return
		}
		left -= n

		var states [sweepBatch]CloseState
		for i, t := range tuples[:n] {
			states[i] = c.closeState(t)
		}
		c.mu.Lock()
		for i, t := range tuples[:n] {
			if f := c.byTuple[t]; f != nil && f.state == stateClosing {
				c.setCloseState(f, states[i])
			}
		}
		c.mu.Unlock()
	}
}

// sweepTimeWait forgets up to a batch of flows whose TIME_WAIT is over, and
// reports whether it was a full one.
func (c *conntrack) sweepTimeWait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.mono()
	c.tick = now
	n := 0
	for f := c.inTimeWait.head; f != nil && f.expires <= now && n < sweepBatch; f = c.inTimeWait.head {
		c.drop(f)
		n++
	}
	return n == sweepBatch
}

// notifyEvictions reports evicted flows to the stack until ctx ends.
func (c *conntrack) notifyEvictions(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-c.evicted:
			c.notifyEvicted(t)
		case t := <-c.evictedOpen:
			c.notifyEvicted(t)
		}
	}
}

// notifyEvicted makes the stack forget a flow, unless its SYN has come again and
// been admitted since: then the stack's endpoint belongs to that flow.
func (c *conntrack) notifyEvicted(t packet.Tuple) {
	c.mu.Lock()
	back := c.byTuple[t] != nil
	c.mu.Unlock()
	if !back {
		c.onEvicted(t)
	}
}
