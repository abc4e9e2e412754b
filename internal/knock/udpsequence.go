package knock

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// UDP sequences: full knocks that share a sequence id, in any order, from any
// port, but from one address. (docs/wire-formats.md, Sequences.) Every part has
// been opened and claimed by itself before it gets here, so only a client's own
// parts take up room.
//
// A finished sequence is remembered until its window is over, because its parts
// are replays; it is not in flight any more and counts against no limit.
const (
	UDPSequencesPerSource = 8
	MaxUDPSequences       = 4096 // in flight; as many finished ones are remembered
)

// udpPart identifies a part of a sequence.
type udpPart struct {
	id    [protocol.SequenceID]byte
	index uint8
}

func newUDPPart(m *protocol.KnockMessage) *udpPart {
	return &udpPart{id: [protocol.SequenceID]byte(m.SequenceID), index: m.Index}
}

// udpSequenceKey identifies a sequence.
type udpSequenceKey struct {
	src    packet.Addr
	client string
	port   uint16
	id     [protocol.SequenceID]byte
}

// udpSequence is a sequence in flight, or finished.
type udpSequence struct {
	received uint8 // parts, by index: at most 8
	done     bool
	session  string
	expires  time.Duration
}

// udpSequences belong to the worker.
type udpSequences struct {
	byKey    map[udpSequenceKey]udpSequence
	bySource map[packet.Addr]int // in flight
	inFlight int
}

func newUDPSequences() udpSequences {
	return udpSequences{byKey: make(map[udpSequenceKey]udpSequence), bySource: make(map[packet.Addr]int)}
}

// add adds a part: Incomplete while more are missing, OK for the one that
// completes the sequence.
func (u *udpSequences) add(a *attempt, now time.Duration, o policy.Sequence) Result {
	key := udpSequenceKey{a.Src, a.client.ID, a.Service.MACPort, a.part.id}
	all := uint8(1<<o.Length - 1)
	q, ok := u.byKey[key]
	if ok && q.expires < now {
		u.remove(key, q)
		ok = false
	}
	if !ok && u.full(a.Src) {
		u.sweep(now) // the worker's last sweep may be long ago, if it was idle
	}

	switch {
	case !ok && u.full(a.Src):
		return LimitReached
	case !ok:
		q = udpSequence{session: a.Event.Session, expires: now + o.Window}
		u.inFlight++
		u.bySource[a.Src]++
	case q.done:
		return Replayed
	case q.session != a.Event.Session:
		return Malformed
	}

	q.received |= 1 << a.part.index
	if q.received != all {
		u.byKey[key] = q
		return Incomplete
	}
	u.release(a.Src)
	if delete(u.byKey, key); len(u.byKey) < u.inFlight+MaxUDPSequences {
		q.done = true
		u.byKey[key] = q // its parts' own replay keys would do; this is the faster answer
	}
	return OK
}

// full reports whether src may begin no other sequence.
func (u *udpSequences) full(src packet.Addr) bool {
	return u.inFlight >= MaxUDPSequences || u.bySource[src] >= UDPSequencesPerSource
}

// release takes a sequence of src off the count of those in flight.
func (u *udpSequences) release(src packet.Addr) {
	u.inFlight--
	if u.bySource[src]--; u.bySource[src] == 0 {
		delete(u.bySource, src)
	}
}

func (u *udpSequences) remove(key udpSequenceKey, q udpSequence) {
	delete(u.byKey, key)
	if !q.done {
		u.release(key.src)
	}
}

// sweep forgets the sequences whose window is over.
func (u *udpSequences) sweep(now time.Duration) {
	for key, q := range u.byKey {
		if q.expires < now {
			u.remove(key, q)
		}
	}
}

// maxPerSource returns how many sequences in flight the source with the most
// has.
func (u *udpSequences) maxPerSource() (n int) {
	for _, of := range u.bySource {
		n = max(n, of)
	}
	return n
}
