package admission

import (
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/tun"
)

// UDP sequences: full knocks that share a sequence id, in any order, from any
// port, but from one address. (PROTOCOL.md, Sequences.) Every part has been
// opened and claimed by itself before it gets here, so only a client's own
// parts take up room.
const (
	sequencesPerSource = 8
	maxUDPSequences    = 4096
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
	src    tun.Addr
	client string
	port   uint16
	id     [protocol.SequenceID]byte
}

// udpSequence is a sequence on its way, or finished.
type udpSequence struct {
	seen    uint8 // parts, by index: at most 8
	session string
	expires time.Duration
}

// udpSequences are a worker's.
type udpSequences struct {
	byKey    map[udpSequenceKey]udpSequence
	bySource map[tun.Addr]int
}

func newUDPSequences() udpSequences {
	return udpSequences{byKey: make(map[udpSequenceKey]udpSequence), bySource: make(map[tun.Addr]int)}
}

// take takes a part: KnockPart while more are to come, KnockOK for the one that
// completes the sequence.
func (u *udpSequences) take(d *decision, now time.Duration, o Sequence) KnockResult {
	key := udpSequenceKey{d.src, d.client.ID, d.service.MACPort, d.part.id}
	all := uint8(1<<o.Length - 1)
	q, ok := u.byKey[key]
	if ok && q.expires < now {
		u.remove(key)
		ok = false
	}
	switch {
	case !ok && (len(u.byKey) >= maxUDPSequences || u.bySource[d.src] >= sequencesPerSource):
		return KnockLimit
	case !ok:
		q = udpSequence{session: d.session, expires: now + o.Window}
		u.bySource[d.src]++
	case q.seen == all:
		return KnockReplay // of a sequence that is finished
	case q.session != d.session:
		return KnockRefused
	}
	q.seen |= 1 << d.part.index
	u.byKey[key] = q
	if q.seen != all {
		return KnockPart
	}
	return KnockOK
}

func (u *udpSequences) remove(key udpSequenceKey) {
	delete(u.byKey, key)
	if u.bySource[key.src]--; u.bySource[key.src] <= 0 {
		delete(u.bySource, key.src)
	}
}

// sweep forgets the sequences whose time is over.
func (u *udpSequences) sweep(now time.Duration) {
	for key, q := range u.byKey {
		if q.expires < now {
			u.remove(key)
		}
	}
}
