package knock

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// The progress of a SYN sequence is kept per client, port and slot, and within
// that per source: an attacker who sends copies of a first part only competes
// with other sources for the entries of that one client in that one slot. The
// attacker comes too late: there is nothing to copy before the client has its
// entry, and an entry is reserved for as long as a sequence may take.
const (
	SourcesPerSYNSequence = 16              // in progress through one client's sequence
	MaxSYNSequences       = 1 << 14         // clients' sequences in all; some 500 bytes each
	ReservedTime          = 5 * time.Second // how long an entry is kept for its source
)

// synSequences are the SYN sequences in progress.
type synSequences struct {
	byKey map[claimKey]*synSequence
	free  []*synSequence
}

// synSequence is one client's sequence in one slot.
type synSequence struct {
	sources [SourcesPerSYNSequence]synProgress
	n       int // sources in use; when all are, the oldest is replaced, if its time is over
	oldest  int
	expires time.Duration
}

// synProgress is one source's progress.
type synProgress struct {
	addr  packet.Addr
	since time.Duration
	next  uint8 // the part to come
}

func newSYNSequences() synSequences {
	return synSequences{byKey: make(map[claimKey]*synSequence)}
}

// advance takes a part and reports whether it completes its sequence; then,
// once the knock is queued, the caller calls finish: until then the last part
// may come again. Parts come in order; one that was received already, or that
// comes too early, is ignored. The caller holds the lock.
func (q *synSequences) advance(src packet.Addr, m *Match, pol *policy.Policy, now time.Duration) bool {
	key := m.claimKey()
	seq := q.byKey[key]
	if seq == nil {
		if m.part != 0 || len(q.byKey) >= MaxSYNSequences {
			return false
		}
		seq = q.begin(now + SlotsAccepted*slotTime(pol, m.kind))
		q.byKey[key] = seq
	}

	source := seq.source(src)
	switch {
	case source == nil && m.part == 0:
		seq.add(src, now)
		return false
	case source == nil || int(source.next) != m.part:
		return false
	case m.part == pol.Sequence().Length-1:
		return true
	}
	source.next++
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

// finish forgets a sequence: it is complete, or its time is over.
func (q *synSequences) finish(key claimKey) {
	if seq := q.byKey[key]; seq != nil {
		delete(q.byKey, key)
		q.free = append(q.free, seq)
	}
}

// sweep forgets those of up to batch sequences whose time is over. The order of
// a map is random, so later calls reach the others.
func (q *synSequences) sweep(batch int, now time.Duration) {
	for key, seq := range q.byKey {
		if seq.expires <= now {
			q.finish(key)
		}
		if batch--; batch == 0 {
			return
		}
	}
}

// source returns the progress of a source, nil if it has none.
func (s *synSequence) source(src packet.Addr) *synProgress {
	for i := range s.n {
		if s.sources[i].addr == src {
			return &s.sources[i]
		}
	}
	return nil
}

// add adds a source that has sent the first part, if there is room.
func (s *synSequence) add(src packet.Addr, now time.Duration) {
	i := s.n
	if s.n < SourcesPerSYNSequence {
		s.n++
	} else {
		if i = s.oldest; now-s.sources[i].since < ReservedTime {
			return
		}
		s.oldest = (s.oldest + 1) % SourcesPerSYNSequence
	}
	s.sources[i] = synProgress{src, now, 1}
}
