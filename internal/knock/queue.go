package knock

import (
	"hash/maphash"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// There are two queues. The slow one takes v1 datagrams of unknown sources,
// which may have to be tried with every client. The fast one takes whatever is
// matched at once: v1 datagrams of sources that have knocked lately, udp-v2,
// SYN knocks. The worker serves the fast queue first.

// An Item is a knock waiting for the worker.
type Item struct {
	src, dst packet.Addr
	port     uint16 // destination port of a datagram
	fast     bool   // which queue it is in
	match    Match  // what it matched in the table; of v1 datagrams nonce alone
	size     int    // of data; 0 for SYN knocks
	data     [protocol.MaxKnock]byte
}

// queue is a bounded queue whose entries are allocated once and reused.
type queue struct {
	free, ready chan *Item
}

func newQueue(n int, fast bool) queue {
	q := queue{free: make(chan *Item, n), ready: make(chan *Item, n)}
	for range n {
		q.free <- &Item{fast: fast}
	}
	return q
}

// next returns a knock that waits, nil if there is none.
func (q *queue) next() *Item {
	select {
	case k := <-q.ready:
		return k
	default:
		return nil
	}
}

// queues are the fast queue and the slow one.
//
// The fast queue overtakes the slow one. A copy must not overtake its original:
// an attacker at a known address could copy the knock of an unknown source and
// use it first, without being faster. So a datagram that may be a copy of one in
// the slow queue goes there too, behind it.
type queues struct {
	fast, slow queue
	seed       maphash.Seed
	// pendingNonces counts the v1 datagrams in the slow queue, by a hash of
	// their nonce. Where the queue is full, one in a hundred other datagrams is
	// taken for a copy.
	pendingNonces [1 << 16]uint32
}

func newQueues(n int) *queues {
	return &queues{fast: newQueue(n, true), slow: newQueue(n, false), seed: maphash.MakeSeed()}
}

// nonceIndex returns the index in pendingNonces of a v1 datagram.
func (q *queues) nonceIndex(knock *protocol.Knock) uint16 {
	return uint16(maphash.Bytes(q.seed, knock.Nonce()))
}

// of returns the queue that k belongs to.
func (q *queues) of(k *Item) *queue {
	if k.fast {
		return &q.fast
	}
	return &q.slow
}

// next returns a knock that waits, a fast one first; nil if there is none.
func (q *queues) next() *Item {
	if k := q.fast.next(); k != nil {
		return k
	}
	return q.slow.next()
}
