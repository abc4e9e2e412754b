package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A flow is one admitted TCP connection, in the table by its tuple in the
// direction from the client. What its segments may be is in its tcb (RFC 9293,
// 3.10.7.4; RFC 5961, 3 to 5).
//
//	        SYN admitted           Complete             Authenticate, or at
//	(none) --------------> opening ---------> complete ----------------> live
//	                          |     3-way        |   once by Complete      |
//	                          |   handshake      |   where none is asked   | Closed
//	                          v                  v                         v
//	(none) <---------------- evicted, forgotten, revoked                 ending
//	   ^                                                    the stack has  |
//	   |    TIME_WAIT is over, or a SYN begins anew         sent the rest  v
//	   '---------------------------------------------------------------- closing
//
// opening and complete are the states that unauthorized hosts can bring about.
// Flows in them are in bounded sets, where one goes when a newer one needs its
// place (see unproven.go). Those that are live are in the queue of their client.
type flow struct {
	tuple   packet.Tuple
	service *serviceState
	grant   *grant // what it was reserved on; nil in open services
	source  *source
	key     *protocol.Client // who it is, and by which secret, once it is live
	state   flowState
	mode    policy.Mode // of its service, and
	revoked bool        // in state closing: only resets leave
	open    bool        // whether that was an open one, when the SYN came: a reload may change both

	tcb

	path          path          // how large its packets may be
	admittedAt    time.Duration // when the SYN came
	lastHeard     time.Duration // when its client last sent something, to sweepInterval
	establishedAt time.Duration // when the handshake was done
	expires       time.Duration // when a closing flow is forgotten

	pendingBytes int           // bytes that it has sent, with overhead, before it was let in
	sets         setMembership // of flows that are not let in
	queue        *queue        // of its client, or where it waits for its end
	prev, next   *flow
}

type flowState uint8

const (
	stateHandshake   flowState = iota // SYN admitted, handshake under way
	stateEstablished                  // handshake done, not authenticated yet
	stateAuthorized                   // let in
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

// drop takes f out of the table and everything that refers to it. From then on
// its client is a stranger. The caller holds g.mu.
func (g *Gate) drop(f *flow) {
	f.unlink()
	delete(g.flows, f.tuple)
	g.offload.Flow(f.tuple, false)
	s := f.source
	if f.state < stateClosing {
		g.releaseQuota(f)
	}
	if s.subnet.offloaded--; s.subnet.offloaded == 0 {
		g.offload.Subnet(s.addr.Subnet(), false)
	}
	s.flows--
	f.grant = nil
	g.removeIfUnused(s)
}

// markEstablished notes that f's handshake is done, so that its address is nobody else's.
// It reports false where the address has too many such flows. SYNs alone do not
// count, or whoever forges them could shut the address out. The caller holds g.mu.
func (g *Gate) markEstablished(f *flow) bool {
	f.state, f.establishedAt = stateEstablished, g.mono()
	site := f.source.subnet
	ok := site.admits(!f.open, g.limits.FlowsPerSource)
	*site.count(f)++
	g.listComplete(f)
	return ok
}

// releaseQuota takes f off the accounts of its source and its client: what lingers
// after its end is not counted against anybody. The caller holds g.mu.
func (g *Gate) releaseQuota(f *flow) {
	g.unlist(f)
	g.releaseBytes(f)
	if f.state != stateHandshake {
		*f.source.subnet.count(f)--
	}
	if f.key != nil {
		has := g.usageOf(f.key.ID())
		has.flows--
		g.dropIfEmpty(f.key.ID(), has)
	}
}

// authorize makes f a full member of the table, in the name of client, who has proved
// it with key. It reports false where the client has too many flows. The caller
// holds g.mu.
func (g *Gate) authorize(f *flow, client *policy.Client, key *protocol.Client) bool {
	most := client.MaxFlows
	if most == 0 {
		most = g.limits.FlowsPerClient
	}
	has := g.usageOf(client.ID)
	if has.flows >= most && g.evictSilent(has) {
		has = g.usageOf(client.ID) // it may have had no other
	}
	site := f.source.subnet
	if has.flows >= most || f.open && site.flows >= g.limits.FlowsPerSource {
		g.dropIfEmpty(client.ID, has)
		return false
	}
	has.flows++
	*site.count(f)--
	g.unlist(f)
	g.releaseBytes(f)
	has.authorized.push(f)
	f.state, f.key = stateAuthorized, key
	*site.count(f)++
	return true
}

// evict drops f and has the stack forget it too. The caller holds g.mu.
func (g *Gate) evict(f *flow) {
	t, notices := f.tuple, g.evicted
	if f.open {
		notices = g.evictedOpen
	}
	g.drop(f)
	select {
	case notices <- t:
	default: // its own deadline will end it
	}
}
