package admission

import (
	"time"

	"github.com/knockgw/knockgw/packet"
)

const (
	// parkTime is how long a SYN waits for the knock that was queued before it:
	// until the client's kernel would send it again anyway (RFC 6298, 2.1).
	parkTime = time.Second
	// maxParked is the largest SYN, in bytes, that can be parked: an IPv6
	// header and a TCP header full of options. One with data goes without.
	maxParked = 40 + 60
)

// parkedSYN is a SYN waiting for a decision, in a slot that is made once.
type parkedSYN struct {
	data  [maxParked]byte
	size  int
	src   packet.Addr
	since time.Duration
	after uint32 // its source's done, once no knock that came before it waits
	next  int32  // the next slot, in the free list or in order of arrival
}

// parking is a fixed number of slots. Waiting SYNs are linked in order of
// arrival, so that the overdue ones are in front.
type parking struct {
	slots      []parkedSYN
	free       int32
	head, tail int32
	n          int // that wait
}

// none ends the lists of slots.
const none = -1

func (k *parking) init(n int) {
	k.slots = make([]parkedSYN, n)
	for i := range k.slots {
		k.slots[i].next = int32(i) + 1 // n is a limit in the thousands
	}
	k.slots[n-1].next = none
	k.free, k.head, k.tail = 0, none, none
}

// parkSYN copies a SYN of a pending source. The caller holds g.mu.
func (g *Gate) parkSYN(p *packet.Packet, s *source) Verdict {
	k := &g.park
	if s.parked >= g.limits.ParkedPerSource || k.free == none || len(p.Data) > maxParked {
		return Verdict{Reason: ReasonParkFull}
	}
	i := k.free
	slot := &k.slots[i]
	k.free = slot.next
	slot.size = copy(slot.data[:], p.Data)
	slot.src, slot.since, slot.next = s.addr, g.mono(), none
	slot.after = s.done + uint32(s.queued) // a limit in the thousands
	if k.tail == none {
		k.head = i
	} else {
		k.slots[k.tail].next = i
	}
	k.tail = i
	k.n++
	s.parked++
	return Verdict{Action: Hold, Reason: ReasonParked}
}

// unlink takes slot i, which follows prev, out of the line and frees it. The
// caller holds g.mu and has copied what it needs.
func (k *parking) unlink(prev, i int32) {
	slot := &k.slots[i]
	if prev == none {
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

// unparking is the memory in which a parked SYN is judged again.
type unparking struct {
	syn packet.Packet
	buf [maxParked]byte
}

// unpark judges the oldest parked SYN of an address that can be decided now. It
// reports whether there was one.
func (g *Gate) unpark(u *unparking, a packet.Addr) bool {
	g.mu.Lock()
	s := g.sources[a]
	if s == nil {
		g.mu.Unlock()
		return false
	}
	prev := int32(none)
	for i := g.park.head; i != none; prev, i = i, g.park.slots[i].next {
		slot := &g.park.slots[i]
		if slot.src != a {
			continue
		}
		if v := g.judgeParked(u, slot, s, int32(s.done-slot.after) >= 0); v.Action != Hold {
			g.unparked(u, prev, i, s, v)
			return true
		}
	}
	g.mu.Unlock()
	return false
}

// unparkOverdue judges the SYN that has been parked the longest, for good, if
// its time is over. It reports whether there was one.
func (g *Gate) unparkOverdue(u *unparking) bool {
	g.mu.Lock()
	i := g.park.head
	if i == none || g.mono()-g.park.slots[i].since < parkTime {
		g.mu.Unlock()
		return false
	}
	slot := &g.park.slots[i]
	s := g.sources[slot.src] // exists: this SYN is counted in it
	g.unparked(u, none, i, s, g.judgeParked(u, slot, s, true))
	return true
}

// unparked takes slot i, which follows prev, out of the line and does what v
// says with its SYN. The caller holds g.mu; unparked lets go of it.
func (g *Gate) unparked(u *unparking, prev, i int32, s *source, v Verdict) {
	g.park.unlink(prev, i)
	s.parked--
	g.release(s)
	g.mu.Unlock()
	g.stats.count(&u.syn, v)
	if g.judged != nil {
		g.judged(&u.syn, v)
	}
	if v.Action == Pass {
		g.deliver(&u.syn, v)
	}
}

// judgeParked decides about a parked SYN again, in u; Hold means that it stays
// where it is. The caller holds g.mu.
func (g *Gate) judgeParked(u *unparking, slot *parkedSYN, s *source, final bool) Verdict {
	p := &u.syn
	p.Data = u.buf[:copy(u.buf[:], slot.data[:slot.size])]
	// It was verified when it came; the bytes are ours and the same.
	p.Offload.ChecksumValid = true
	p.Parse()
	svc := g.policy.Load().Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	if svc == nil {
		return Verdict{Reason: ReasonParkTimeout} // the policy changed meanwhile
	}
	old := g.flows[p.Tuple]
	if old != nil && (old.isn == p.Seq || old.state != closing) {
		return g.admitSegment(old, p) // its retransmission was faster
	}
	v := g.judgeSYN(p, g.places[svc.Index()], s, old, final)
	if v.Reason == ReasonNoGrant {
		v.Reason = ReasonParkTimeout
	}
	return v
}
