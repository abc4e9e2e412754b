package admission

import (
	"hash/maphash"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The knock pipeline. What makes a source pending, and what ends it:
//
//	           datagram that could be a knock
//	stranger -------------------------------------> pending (queued = 1)
//	   ^                                              |   ^  | its SYNs are parked:
//	   |    a knock decided: each of its parked SYNs  |   |  | at most 128 each,
//	   '--- goes in, if a grant has room for it, or --'   |  | 4096 in all, 1 s
//	        if no knock that came before it waits,        '--'  more knocks: queued++
//	        goes in on any grant or is dropped
//
// A client sends its knock and then at once its SYN. The reader sees both in
// that order and marks the source before it looks at the SYN, so the SYN finds
// the grant, or the source pending. There is no third case. Knocks that come
// after a SYN do not hold it up: a neighbour's junk could do that for good.
//
// There are two lanes. The cold one takes v1 datagrams of sources that nobody
// knows, which may have to be tried with every client; the warm one all that is
// found at once: v1 datagrams of sources that have knocked lately, udp-v2, SYN
// knocks. The worker serves the warm lane first.

// queuedKnock is a knock waiting for a worker.
type queuedKnock struct {
	src, dst packet.Addr
	port     uint16 // that a datagram went to
	warm     bool   // which lane it is in
	hit      hit    // what it was expected as; of v1 datagrams place alone
	size     int    // of data; 0 for SYN knocks
	data     [protocol.MaxKnock]byte
}

// lane is a bounded queue: its entries are made once and go round.
type lane struct {
	free, ready chan *queuedKnock
}

func (q *lane) init(n int, warm bool) {
	q.free, q.ready = make(chan *queuedKnock, n), make(chan *queuedKnock, n)
	for range n {
		q.free <- &queuedKnock{warm: warm}
	}
}

// next returns a knock that waits, nil if there is none.
func (q *lane) next() *queuedKnock {
	select {
	case k := <-q.ready:
		return k
	default:
		return nil
	}
}

// knockLanes are the two queues.
//
// The warm lane overtakes the cold one. A copy must not overtake its original:
// somebody whose address is known could copy a newcomer's knock and use it first,
// without being faster. So a datagram that may be a copy of one in the cold lane
// goes there too, behind it.
type knockLanes struct {
	warm, cold lane
	seed       maphash.Seed
	// originals counts the v1 datagrams in the cold lane, by a hash of their nonce.
	// Where that is full of them, one in a hundred others is taken for a copy.
	originals [1 << 16]uint32
}

// original returns the place in originals of a v1 datagram.
func (q *knockLanes) original(knock *protocol.Knock) uint16 {
	return uint16(maphash.Bytes(q.seed, knock.Nonce()))
}

func (q *knockLanes) init(n int) {
	q.warm.init(n, true)
	q.cold.init(n, false)
	q.seed = maphash.MakeSeed()
}

// of returns the lane that k belongs to.
func (q *knockLanes) of(k *queuedKnock) *lane {
	if k.warm {
		return &q.warm
	}
	return &q.cold
}

// admitUDP queues what is or could be a knock. It does only what needs no key.
func (g *Gate) admitUDP(p *packet.Packet) Verdict {
	pol := g.policy.Load()
	families := pol.MethodsAt(p.Tuple.Dst, p.Tuple.DstPort)
	if families == 0 {
		return Verdict{Reason: ReasonNotService}
	}
	payload := p.Data[p.Payload:]
	if families&policy.MethodUDPv2 != 0 {
		if k, err := protocol.ParseKnockV2(payload); err == nil {
			if v := g.admitV2(p, payload, k.Hint()); v.Reason != ReasonNotKnock {
				return v
			}
		}
	}
	if families&policy.MethodsV1 == 0 {
		return Verdict{Reason: ReasonNotKnock}
	}
	knock, err := protocol.ParseKnock(payload)
	if err != nil {
		return Verdict{Reason: ReasonNotKnock}
	}
	cost := pol.TrialCost(p.Tuple.Dst, p.Tuple.DstPort, seenClients)
	place := g.knocks.original(&knock)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	src := p.Tuple.Src
	if g.knocks.originals[place] == 0 && g.known(src, now) {
		if !g.budgets.payKnown(src, cost.Known, now) {
			return Verdict{Reason: ReasonBudget}
		}
		return g.enqueue(&g.knocks.warm, p.Tuple, payload, hit{place: place})
	}
	if !g.budgets.knocks.allow(&g.budgets, src, cost.All, now) {
		return Verdict{Reason: ReasonBudget}
	}
	v := g.enqueue(&g.knocks.cold, p.Tuple, payload, hit{place: place})
	if v.Action == Hold {
		g.knocks.originals[place]++
	}
	return v
}

// admitV2 takes a datagram of udp-v2's size, if its hint is expected.
func (g *Gate) admitV2(p *packet.Packet, payload []byte, h protocol.HintV2) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, ok := g.lookUp(hintKey(h))
	if !ok || found.kind != expectV2 {
		return Verdict{Reason: ReasonNotKnock}
	}
	pol := g.policy.Load()
	found.service, found.forbidden = pol.ServiceV2(p.Tuple.Dst, p.Tuple.DstPort, found.expectation)
	if found.service == nil {
		return Verdict{Reason: ReasonNotKnock}
	}
	if !g.budgets.payFound(p.Tuple.Src, &found, g.mono()) {
		return Verdict{Reason: ReasonBudget}
	}
	return g.enqueue(&g.knocks.warm, p.Tuple, payload, found)
}

// enqueue copies a knock into a lane and makes its source pending, or a little
// more so. payload is empty for SYN knocks. The caller holds g.mu.
func (g *Gate) enqueue(q *lane, t packet.Tuple, payload []byte, h hit) Verdict {
	var k *queuedKnock
	select {
	case k = <-q.free:
	default:
		return Verdict{Reason: ReasonQueueFull}
	}
	s := g.sourceOf(t.Src)
	if s.queued >= g.limits.KnocksPerSource {
		q.free <- k
		return Verdict{Reason: ReasonQueueFull}
	}
	s.queued++
	k.src, k.dst, k.port, k.hit = t.Src, t.Dst, t.DstPort, h
	k.size = copy(k.data[:], payload)
	q.ready <- k // never blocks: there are no more entries than places
	return Verdict{Action: Hold, Reason: ReasonKnock}
}
