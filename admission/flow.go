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
	place   *place
	grant   *grant // what it was reserved on; nil in open services
	source  *source
	key     *protocol.Client // who it is, and by which secret, once it is live
	state   flowState
	mode    policy.Mode // of its service, and
	revoked bool        // in state closing: only resets leave
	open    bool        // whether that was an open one, when the SYN came: a reload may change both

	tcb

	path     path          // how large its packets may be
	admitted time.Duration // when the SYN came
	heard    time.Duration // when its client last sent something, to sweepInterval
	proved   time.Duration // when the handshake was done
	expires  time.Duration // when a closing flow is forgotten

	held       int        // bytes that it has sent, with overhead, before it was let in
	sets       membership // of flows that are not let in
	queue      *queue     // of its client, or where it waits for its end
	prev, next *flow
}

type flowState uint8

const (
	opening  flowState = iota // SYN admitted, handshake under way
	complete                  // handshake done, not authenticated yet
	live                      // let in
	ending                    // the relay is done; the stack's endpoint may not be
	closing                   // the stack's endpoint is in TIME_WAIT
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

// leave takes f out of the queue that it is in, if any.
func (f *flow) leave() {
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
	f.leave()
	delete(g.flows, f.tuple)
	g.mirror.Flow(f.tuple, false)
	s := f.source
	if f.state < ending {
		g.depart(f)
	}
	if s.site.told--; s.site.told == 0 {
		g.mirror.Site(s.addr.Subnet(), false)
	}
	s.flows--
	f.grant = nil
	g.release(s)
}

// prove notes that f's handshake is done, so that its address is nobody else's.
// It reports false where the address has too many such flows. SYNs alone do not
// count, or whoever forges them could shut the address out. The caller holds g.mu.
func (g *Gate) prove(f *flow) bool {
	f.state, f.proved = complete, g.mono()
	site := f.source.site
	ok := site.admits(!f.open, g.limits.FlowsPerSource)
	*site.count(f)++
	g.listComplete(f)
	return ok
}

// depart takes f off the accounts of its source and its client: what lingers
// after its end is not counted against anybody. The caller holds g.mu.
func (g *Gate) depart(f *flow) {
	g.unlist(f)
	g.unhold(f)
	if f.state != opening {
		*f.source.site.count(f)--
	}
	if f.key != nil {
		has := g.holdingsOf(f.key.ID())
		has.flows--
		g.settleHoldings(f.key.ID(), has)
	}
}

// enter makes f a full member of the table, in the name of client, who has proved
// it with key. It reports false where the client has too many flows. The caller
// holds g.mu.
func (g *Gate) enter(f *flow, client *policy.Client, key *protocol.Client) bool {
	most := client.MaxFlows
	if most == 0 {
		most = g.limits.FlowsPerClient
	}
	has := g.holdingsOf(client.ID)
	if has.flows >= most && g.evictSilent(has) {
		has = g.holdingsOf(client.ID) // it may have had no other
	}
	site := f.source.site
	if has.flows >= most || f.open && site.flows >= g.limits.FlowsPerSource {
		g.settleHoldings(client.ID, has)
		return false
	}
	has.flows++
	*site.count(f)--
	g.unlist(f)
	g.unhold(f)
	has.live.push(f)
	f.state, f.key = live, key
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
