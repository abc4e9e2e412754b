package admission

import (
	"time"

	"github.com/knockgw/knockgw/tun"
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
	src   tun.Addr
	since time.Duration
	due   uint64 // source.count once every knock that was queued before it is decided
	next  int32  // the next slot, in the free list or in order of arrival
}

// parking is a fixed number of slots. Waiting SYNs are linked in order of
// arrival, so that the overdue ones are in front.
type parking struct {
	slots      []parkedSYN
	free       int32
	head, tail int32
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
func (g *Gate) parkSYN(p *tun.Packet, s *source) Verdict {
	k := &g.park
	if s.parked >= g.limits.ParkedPerSource || k.free == none || len(p.Data) > maxParked {
		return Verdict{Reason: ReasonParkFull}
	}
	i := k.free
	slot := &k.slots[i]
	k.free = slot.next
	slot.size = copy(slot.data[:], p.Data)
	slot.src, slot.since, slot.next = s.addr, g.mono(), none
	slot.due = s.count + uint64(s.queued)
	if k.tail == none {
		k.head = i
	} else {
		k.slots[k.tail].next = i
	}
	k.tail = i
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
}

// unpark judges the oldest parked SYN of an address that can be decided now: it
// goes in, if there is a grant, or is dropped, if no knock of the source waits
// any more. It reports whether there was one to decide.
func (w *worker) unpark(a tun.Addr) bool {
	g, syn := w.Gate, &w.syn
	var v Verdict
	g.mu.Lock()
	s := g.sources[a]
	if s == nil {
		g.mu.Unlock()
		return false
	}
	found := false
	prev := int32(none)
	for i := g.park.head; i != none && !found; prev, i = i, g.park.slots[i].next {
		slot := &g.park.slots[i]
		if slot.src != a {
			continue
		}
		size := copy(w.buf[:], slot.data[:slot.size])
		syn.Data = w.buf[:size]
		// It was verified when it came; the bytes are ours and the same.
		syn.Offload.ChecksumValid = true
		syn.Parse()
		v = g.judgeParked(syn, s, s.count < slot.due)
		if v.Action == Hold {
			continue
		}
		found = true
		g.park.unlink(prev, i)
		s.parked--
		break
	}
	g.release(s)
	g.mu.Unlock()
	if !found {
		return false
	}
	g.stats.count(syn, v)
	if v.Action == Pass {
		g.deliver(syn, v)
	}
	return true
}

// judgeParked decides about a parked SYN again; Hold means that it stays where
// it is. Its patience ends with the last knock that came before it, or junk that
// keeps coming could keep it waiting. The caller holds g.mu.
func (g *Gate) judgeParked(p *tun.Packet, s *source, patience bool) Verdict {
	svc := g.policy.Load().service(p.Tuple.Dst, p.Tuple.DstPort)
	if svc == nil {
		return Verdict{Reason: ReasonParkTimeout} // the policy changed meanwhile
	}
	old := g.flows[p.Tuple]
	if old != nil && (old.isn == p.Seq || old.state != closing) {
		return Verdict{Action: Pass, Reason: ReasonFlow} // its retransmission was faster
	}
	if gr := s.grantFor(svc, p.Tuple.SrcPort, g.mono(), patience); gr != nil {
		if svc.Open() {
			return g.record(p, svc, old, nil, ReasonOpen) // its source is banned, and the grant lets it in
		}
		return g.record(p, svc, old, gr, ReasonGrant)
	}
	if s.queued > 0 {
		return Verdict{Action: Hold, Reason: ReasonParked}
	}
	return Verdict{Reason: ReasonParkTimeout}
}

// expireParked drops the SYNs that waited too long. The caller holds g.mu.
func (g *Gate) expireParked(now time.Duration) {
	for i := g.park.head; i != none; i = g.park.head {
		slot := &g.park.slots[i]
		if now-slot.since < parkTime {
			return
		}
		s := g.sources[slot.src]
		g.park.unlink(none, i)
		s.parked--
		g.release(s)
		g.stats.reasons[ReasonParkTimeout].Add(1)
	}
}
