package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// A SYN sequence's progress is kept per client, port and slot, and in it per
// source: whatever somebody sends with a copied first part, he only competes
// with others for the places of that one client in that one slot. He comes too
// late: there is nothing to copy before the client has its place, and a place is
// kept for as long as a sequence may take.
const (
	synSources      = 16              // sources that are on their way through one client's sequence
	placeTime       = 5 * time.Second // how long a place is nobody else's
	maxSYNSequences = 1 << 14         // clients' sequences in all; some 500 bytes each
)

// synSequences are the SYN sequences on their way.
type synSequences struct {
	byKey map[ownerKey]*synSequence
	free  []*synSequence
}

// synSequence is one client's sequence in one slot.
type synSequence struct {
	places  [synSources]synPlace
	n       int // places used; then the oldest is taken, if its time is over
	oldest  int
	expires time.Duration
}

// synPlace is one source's progress.
type synPlace struct {
	addr  packet.Addr
	since time.Duration
	next  uint8 // the part to come
}

func (q *synSequences) init() { q.byKey = make(map[ownerKey]*synSequence) }

// progress takes a part and tells whether it completes its sequence; then, once
// the knock is queued, finish is to be called: until that the last part may come
// again. Parts come in order; one that was seen already, or that comes too
// early, is ignored. The caller holds the gate's lock.
func (q *synSequences) progress(src packet.Addr, h hit, p *policy.Policy, now time.Duration) bool {
	key := h.owner()
	seq := q.byKey[key]
	if seq == nil {
		if h.part != 0 || len(q.byKey) >= maxSYNSequences {
			return false
		}
		seq = q.begin(now + slotsAccepted*slotTime(p, h.kind))
		q.byKey[key] = seq
	}
	place := seq.place(src)
	switch {
	case place == nil && h.part == 0:
		seq.enter(src, now)
		return false
	case place == nil || int(place.next) != h.part:
		return false
	case h.part == p.Sequence().Length-1:
		return true
	}
	place.next++
	return false
}

// begin returns an empty sequence.
func (q *synSequences) begin(expires time.Duration) *synSequence {
	n := len(q.free)
	if n == 0 {
		return &synSequence{expires: expires}
	}
	seq := q.free[n-1]
	q.free = q.free[:n-1]
	*seq = synSequence{expires: expires}
	return seq
}

// finish forgets a sequence: it is decided, or its time is over.
func (q *synSequences) finish(key ownerKey) {
	if seq := q.byKey[key]; seq != nil {
		delete(q.byKey, key)
		q.free = append(q.free, seq)
	}
}

// place returns the place of a source, nil if it has none.
func (s *synSequence) place(src packet.Addr) *synPlace {
	for i := range s.n {
		if s.places[i].addr == src {
			return &s.places[i]
		}
	}
	return nil
}

// enter gives a source a place, if there is one.
func (s *synSequence) enter(src packet.Addr, now time.Duration) {
	i := s.n
	if s.n < synSources {
		s.n++
	} else {
		if i = s.oldest; now-s.places[i].since < placeTime {
			return
		}
		s.oldest = (s.oldest + 1) % synSources
	}
	s.places[i] = synPlace{src, now, 1}
}

// sweepSequences forgets SYN sequences that are over.
func (g *Gate) sweepSequences() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	sweepSome(g.sequences.byKey,
		func(seq *synSequence) bool { return seq.expires <= now },
		g.sequences.finish)
}
