package admission

import (
	"time"

	"github.com/knockgw/knockgw/packet"
)

const (
	// deferTime is how long a SYN waits for the knock that was queued before it:
	// until the client's kernel would send it again anyway (RFC 6298, 2.1).
	deferTime = time.Second
	// maxDeferredSYN is the largest SYN, in bytes, that can be parked: an IPv6
	// header and a TCP header full of options. One with data goes without.
	maxDeferredSYN = 40 + 60
)

// deferredSYN is a SYN waiting for a decision, in a slot that is made once.
type deferredSYN struct {
	data  [maxDeferredSYN]byte
	size  int
	src   packet.Addr
	since time.Duration
	after uint32 // its source's done, once no knock that came before it waits
	next  int32  // the next slot, in the free list or in order of arrival
}

// deferredQueue is a fixed number of slots. Waiting SYNs are linked in order of
// arrival, so that the overdue ones are in front.
type deferredQueue struct {
	slots      []deferredSYN
	free       int32
	head, tail int32
	n          int // that wait
}

// nilIndex ends the lists of slots.
const nilIndex = -1

func (k *deferredQueue) init(n int) {
	k.slots = make([]deferredSYN, n)
	for i := range k.slots {
		k.slots[i].next = int32(i) + 1 // n is a limit in the thousands
	}
	k.slots[n-1].next = nilIndex
	k.free, k.head, k.tail = 0, nilIndex, nilIndex
}

// deferSYN copies a SYN of a pending source. The caller holds g.mu.
func (g *Gate) deferSYN(p *packet.Packet, s *source) Verdict {
	k := &g.deferred
	if s.deferred >= g.limits.DeferredSYNsPerSource || k.free == nilIndex || len(p.Data) > maxDeferredSYN {
		return Verdict{Reason: ReasonDeferFull}
	}
	i := k.free
	slot := &k.slots[i]
	k.free = slot.next
	slot.size = copy(slot.data[:], p.Data)
	slot.src, slot.since, slot.next = s.addr, g.mono(), nilIndex
	slot.after = s.done + uint32(s.queued) // a limit in the thousands
	if k.tail == nilIndex {
		k.head = i
	} else {
		k.slots[k.tail].next = i
	}
	k.tail = i
	k.n++
	s.deferred++
	return Verdict{Action: Hold, Reason: ReasonDeferred}
}

// unlink takes slot i, which follows prev, out of the line and frees it. The
// caller holds g.mu and has copied what it needs.
func (k *deferredQueue) unlink(prev, i int32) {
	slot := &k.slots[i]
	if prev == nilIndex {
		k.head = slot.next
	} else {
		k.slots[prev].next = slot.next
	}
	if k.tail == i {
		k.tail = prev
	}
	slot.next, k.free = k.free, i
	k.n--
}

// retryBuffer is the memory in which a parked SYN is judged again.
type retryBuffer struct {
	syn packet.Packet
	buf [maxDeferredSYN]byte
}

// retryDeferred judges the oldest parked SYN of an address that can be decided now. It
// reports whether there was one.
func (g *Gate) retryDeferred(u *retryBuffer, a packet.Addr) bool {
	g.mu.Lock()
	s := g.sources[a]
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
		if v := g.recheckDeferred(u, slot, s, int32(s.done-slot.after) >= 0); v.Action != Hold {
			g.resolveDeferred(u, prev, i, s, v)
			return true
		}
	}
	g.mu.Unlock()
	return false
}

// expireDeferred judges the SYN that has been parked the longest, for good, if
// its time is over. It reports whether there was one.
func (g *Gate) expireDeferred(u *retryBuffer) bool {
	g.mu.Lock()
	i := g.deferred.head
	if i == nilIndex || g.mono()-g.deferred.slots[i].since < deferTime {
		g.mu.Unlock()
		return false
	}
	slot := &g.deferred.slots[i]
	s := g.sources[slot.src] // exists: this SYN is counted in it
	g.resolveDeferred(u, nilIndex, i, s, g.recheckDeferred(u, slot, s, true))
	return true
}

// resolveDeferred takes slot i, which follows prev, out of the line and does what v
// says with its SYN. The caller holds g.mu; unparked lets go of it.
func (g *Gate) resolveDeferred(u *retryBuffer, prev, i int32, s *source, v Verdict) {
	g.deferred.unlink(prev, i)
	s.deferred--
	g.removeIfUnused(s)
	g.mu.Unlock()
	g.stats.count(&u.syn, v)
	if g.onDeferred != nil {
		g.onDeferred(&u.syn, v)
	}
	if v.Action == Pass {
		g.deliver(&u.syn, v)
	}
}

// recheckDeferred decides about a parked SYN again, in u; Hold means that it stays
// where it is. The caller holds g.mu.
func (g *Gate) recheckDeferred(u *retryBuffer, slot *deferredSYN, s *source, final bool) Verdict {
	p := &u.syn
	p.Data = u.buf[:copy(u.buf[:], slot.data[:slot.size])]
	// It was verified when it came; the bytes are ours and the same.
	p.Offload.ChecksumValid = true
	p.Parse()
	svc := g.policy.Load().Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	if svc == nil {
		return Verdict{Reason: ReasonDeferTimeout} // the policy changed meanwhile
	}
	old := g.flows[p.Tuple]
	if old != nil && (old.isn == p.Seq || old.state != stateTimeWait) {
		return g.admitSegment(old, p) // its retransmission was faster
	}
	v := g.admitOnGrant(p, g.services[svc.Index()], s, old, final)
	if v.Reason == ReasonNoGrant {
		v.Reason = ReasonDeferTimeout
	}
	return v
}
