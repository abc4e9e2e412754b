package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// UDP sequences: full knocks that share a sequence id, in any order, from any
// port, but from one address. (docs/wire-formats.md, Sequences.) Every part has been
// opened and claimed by itself before it gets here, so only a client's own
// parts take up room.
//
// A finished sequence is remembered until its window is over, for its parts are
// replays; it is not in flight any more, and nobody's limit counts it.
const (
	sequencesPerSource = 8
	maxUDPSequences    = 4096 // in flight; as many finished ones are remembered
)

// udpPart is what a part says about its sequence.
type udpPart struct {
	id    [protocol.SequenceID]byte
	index uint8
}

func newUDPPart(m *protocol.KnockMessage) *udpPart {
	return &udpPart{id: [protocol.SequenceID]byte(m.SequenceID), index: m.Index}
}

// udpSequenceKey names a sequence.
type udpSequenceKey struct {
	src    packet.Addr
	client string
	port   uint16
	id     [protocol.SequenceID]byte
}

// udpSequence is a sequence on its way, or finished.
type udpSequence struct {
	seen    uint8 // parts, by index: at most 8
	done    bool
	session string
	expires time.Duration
}

// udpSequences are a worker's.
type udpSequences struct {
	byKey    map[udpSequenceKey]udpSequence
	bySource map[packet.Addr]int // in flight
	inFlight int
}

func newUDPSequences() udpSequences {
	return udpSequences{byKey: make(map[udpSequenceKey]udpSequence), bySource: make(map[packet.Addr]int)}
}

// take takes a part: KnockPart while more are to come, KnockOK for the one that
// completes the sequence.
func (u *udpSequences) take(d *decision, now time.Duration, o policy.Sequence) KnockResult {
	key := udpSequenceKey{d.src, d.client.ID, d.service.MACPort, d.part.id}
	all := uint8(1<<o.Length - 1)
	q, ok := u.byKey[key]
	if ok && q.expires < now {
		u.remove(key, q)
		ok = false
	}
	if !ok && u.full(d.src) {
		u.sweep(now) // the worker's own may be long ago, if it had nothing to do
	}
	switch {
	case !ok && u.full(d.src):
		return KnockLimit
	case !ok:
		q = udpSequence{session: d.session, expires: now + o.Window}
		u.inFlight++
		u.bySource[d.src]++
	case q.done:
		return KnockReplay
	case q.session != d.session:
		return KnockRefused
	}
	q.seen |= 1 << d.part.index
	if q.seen != all {
		u.byKey[key] = q
		return KnockPart
	}
	u.land(d.src)
	if delete(u.byKey, key); len(u.byKey) < u.inFlight+maxUDPSequences {
		q.done = true
		u.byKey[key] = q // its parts' own replay keys would do; this says it sooner
	}
	return KnockOK
}

// full tells whether src may begin no other sequence.
func (u *udpSequences) full(src packet.Addr) bool {
	return u.inFlight >= maxUDPSequences || u.bySource[src] >= sequencesPerSource
}

// land counts a sequence as one that is not in flight any more.
func (u *udpSequences) land(src packet.Addr) {
	u.inFlight--
	if u.bySource[src]--; u.bySource[src] == 0 {
		delete(u.bySource, src)
	}
}

func (u *udpSequences) remove(key udpSequenceKey, q udpSequence) {
	delete(u.byKey, key)
	if !q.done {
		u.land(key.src)
	}
}

// sweep forgets the sequences whose time is over.
func (u *udpSequences) sweep(now time.Duration) {
	for key, q := range u.byKey {
		if q.expires < now {
			u.remove(key, q)
		}
	}
}
