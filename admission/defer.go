package admission

import (
	"time"

	"github.com/knockgw/knockgw/packet"
)

const (
	// deferTime is how long a SYN waits for the knock that was queued before it:
	// until the client's kernel would send it again anyway (RFC 6298, 2.1).
	deferTime = time.Second
	// maxDeferredSYN is the largest SYN, in bytes, that can be deferred: an IPv6
	// header and a TCP header full of options. One with data is dropped.
	maxDeferredSYN = 40 + 60
)

// deferredSYN is a SYN waiting for a decision, in a slot that is allocated once.
type deferredSYN struct {
	data  [maxDeferredSYN]byte
	size  int
	src   packet.Addr
	since time.Duration
	after uint32 // its source's done, once no knock that came before it waits
	next  int32  // the next slot, in the free list or in order of arrival
}

// deferredQueue is a fixed number of slots. Waiting SYNs are linked in order of
// arrival, so that the overdue ones are in front. The gate's lock guards it.
type deferredQueue struct {
	slots      []deferredSYN
	free       int32
	head, tail int32
	n          int // that wait
}

// nilIndex ends the lists of slots.
const nilIndex = -1

func (q *deferredQueue) init(n int) {
	q.slots = make([]deferredSYN, n)
	for i := range q.slots {
		q.slots[i].next = int32(i) + 1 // n is a limit in the thousands
	}
	q.slots[n-1].next = nilIndex
	q.free, q.head, q.tail = 0, nilIndex, nilIndex
}

// add copies a SYN of s, a pending source, which may have limit of them.
func (q *deferredQueue) add(p *packet.Packet, s *source, now time.Duration, limit int) Verdict {
	if s.deferred >= limit || q.free == nilIndex || len(p.Data) > maxDeferredSYN {
		return Verdict{Reason: ReasonDeferFull}
	}
	i := q.free
	slot := &q.slots[i]
	q.free = slot.next
	slot.size = copy(slot.data[:], p.Data)
	slot.src, slot.since, slot.next = s.addr, now, nilIndex
	slot.after = s.done + uint32(s.queued) // a limit in the thousands

	if q.tail == nilIndex {
		q.head = i
	} else {
		q.slots[q.tail].next = i
	}
	q.tail = i
	q.n++
	s.deferred++
	return Verdict{Action: Hold, Reason: ReasonDeferred}
}

// remove takes slot i, which follows prev, out of the queue and frees it. The
// caller has copied what it needs.
func (q *deferredQueue) remove(prev, i int32) {
	slot := &q.slots[i]
	if prev == nilIndex {
		q.head = slot.next
	} else {
		q.slots[prev].next = slot.next
	}
	if q.tail == i {
		q.tail = prev
	}
	slot.next, q.free = q.free, i
	q.n--
}

// retryBuffer is the memory in which a deferred SYN is decided again.
type retryBuffer struct {
	syn packet.Packet
	buf [maxDeferredSYN]byte
}

// retryDeferred decides the oldest deferred SYN of an address that can be
// decided now. It reports whether there was one.
func (g *Gate) retryDeferred(b *retryBuffer, a packet.Addr) bool {
	g.mu.Lock()
	s := g.sources.byAddr[a]
	if s == nil {
		g.mu.Unlock()
		return false
	}
	prev := int32(nilIndex)
	for i := g.deferred.head; i != nilIndex; prev, i = i, g.deferred.slots[i].next {
		slot := &g.deferred.slots[i]
		if slot.src != a {
			continue
		}
		if v := g.recheckDeferred(b, slot, s, int32(s.done-slot.after) >= 0); v.Action != Hold {
			g.resolveDeferred(b, prev, i, s, v)
			return true
		}
	}
	g.mu.Unlock()
	return false
}

// expireDeferred makes the final decision about the SYN that has been deferred
// the longest, if its time is over. It reports whether there was one.
func (g *Gate) expireDeferred(b *retryBuffer) bool {
	g.mu.Lock()
	i := g.deferred.head
	if i == nilIndex || g.mono()-g.deferred.slots[i].since < deferTime {
		g.mu.Unlock()
		return false
	}
	slot := &g.deferred.slots[i]
	s := g.sources.byAddr[slot.src] // exists: this SYN is counted in it
	g.resolveDeferred(b, nilIndex, i, s, g.recheckDeferred(b, slot, s, true))
	return true
}

// recheckDeferred decides about a deferred SYN again, in b; Hold means that it
// stays where it is. The caller holds g.mu.
func (g *Gate) recheckDeferred(b *retryBuffer, slot *deferredSYN, s *source, final bool) Verdict {
	p := &b.syn
	p.Data = b.buf[:copy(b.buf[:], slot.data[:slot.size])]
	// It was verified when it came; the bytes are ours and the same.
	p.Offload.ChecksumValid = true
	p.Parse()
	svc := g.policy.Load().Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	if svc == nil {
		return Verdict{Reason: ReasonDeferTimeout} // the policy has changed
	}

	old := g.flows.byTuple[p.Tuple]
	if old != nil && (old.isn == p.Seq || old.state != stateTimeWait) {
		return g.admitSegment(old, p) // its retransmission was faster
	}
	v := g.admitOnGrant(p, g.services[svc.Index()], s, old, final)
	if v.Reason == ReasonNoGrant {
		v.Reason = ReasonDeferTimeout
	}
	return v
}

// resolveDeferred removes slot i, which follows prev, and does what v says with
// its SYN. The caller holds g.mu; resolveDeferred unlocks it.
func (g *Gate) resolveDeferred(b *retryBuffer, prev, i int32, s *source, v Verdict) {
	g.deferred.remove(prev, i)
	s.deferred--
	g.sources.removeIfUnused(s)
	g.mu.Unlock()

	g.stats.count(&b.syn, v)
	if g.onDeferred != nil {
		g.onDeferred(&b.syn, v)
	}
	if v.Action == Pass {
		g.deliver(&b.syn, v)
	}
}
