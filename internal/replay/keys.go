package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// The state of a store: a set of keys and the order in which they expire.
//
//	                the monotonic             the wall clock
//	 claimed  ──►  active  ── clock is past ──►  graced ── is past ──►  removed
//	                 │                                           ▲
//	                 └───────── both clocks are past ────────────┘
//
// A clock step forward ends nothing early, because active keys wait for the
// monotonic clock; a step back makes old messages fresh again, so their keys
// are graced until the wall clock has caught up. (Keys that were removed before
// the step stay removed: only keys that are kept forever could refuse such
// messages.) Graced keys do not count against any client: a clock that was
// years ahead for a moment must not fill the store for years.

const (
	// expireFloor is how many keys a call may remove besides two for each key
	// that it adds: enough to empty an idle store, and less than 10 us of work.
	expireFloor = 32
	// expireWhenFull is how many more it may remove before a claim is refused
	// because the store is full: about 0.5 ms once, instead of a refusal
	// because of old keys.
	expireWhenFull = 2048
	// claimPrefix is the size of what precedes the client's ID in a hashed
	// claim: kind and length.
	claimPrefix = 1 + 4
	// keepCapacity is the number of keys below which an emptied store keeps its
	// memory (100 KB).
	keepCapacity = 1024
)

// digest is a truncated SHA-256 of a claim. With 128 bits, two messages do not
// collide.
type digest [16]byte

// entry is 48 bytes without pointers, so that a million of them cost the garbage
// collector nothing.
type entry struct {
	key    digest
	due    int64  // active: monotonic nanoseconds; graced: the same as wall
	wall   int64  // Unix milliseconds at which it expires by the wall clock
	client uint64 // the client against which it counts; 0: none
	life   uint32 // milliseconds, to restart the monotonic lifetime after a restart
	seg    uint8  // its file segment; 0 in a MemoryStore
}

// keySet is not safe for concurrent use; its store has a lock.
type keySet struct {
	recorded    map[digest]bool // the value is false after an I/O error
	active      entryHeap
	graced      entryHeap
	perClient   map[uint64]int
	live        [segmentCount]int // keys per segment
	counted     int               // sum of perClient
	maxLifetime int64             // nanoseconds: the longest lifetime seen
	max         int
	maxClient   int
}

func newKeySet(maxKeys, maxPerClient int) *keySet {
	return &keySet{
		recorded:  map[digest]bool{},
		perClient: map[uint64]int{},
		max:       maxKeys,
		maxClient: maxPerClient,
	}
}

// usage returns the number of keys that count against clients, and that of the
// client with the most.
func (k *keySet) usage() []Usage {
	of := 0
	for _, n := range k.perClient {
		of = max(of, n)
	}
	return []Usage{{"replay_keys", k.counted, k.max}, {"replay_keys_per_client", of, k.maxClient}}
}

// claim adds the claim's key to segment seg and returns its entry, or an error.
func (k *keySet) claim(c *Claim, t instant, seg uint8) (entry, error) {
	if c.Kind == 0 || len(c.Nonce) == 0 || c.Lifetime <= 0 || c.Lifetime > MaxLifetime {
		return entry{}, ErrInvalidClaim
	}
	key, client := hashClaim(c)
	if recorded, ok := k.recorded[key]; ok {
		if !recorded {
			return entry{}, ErrUnrecorded
		}
		return entry{}, ErrReplayed
	}
	if k.perClient[client] >= k.clientLimit() {
		k.expire(t, expireWhenFull)
		if k.perClient[client] >= k.clientLimit() {
			return entry{}, ErrFull
		}
	}
	// Rounded up, to be later than the last fresh millisecond.
	life := uint32((c.Lifetime + time.Millisecond - 1) / time.Millisecond)
	e := entry{key: key, wall: t.wall + int64(life), client: client, life: life, seg: seg}
	k.add(e, t)
	return e, nil
}

// clientLimit returns how many keys a client may have now: as many as are free,
// at most maxClient.
func (k *keySet) clientLimit() int { return min(k.maxClient, k.max-k.counted) }

// add adds e and starts its monotonic lifetime.
func (k *keySet) add(e entry, t instant) {
	life := int64(e.life) * int64(time.Millisecond)
	e.due = t.mono + life
	k.maxLifetime = max(k.maxLifetime, life)
	k.recorded[e.key] = true
	k.live[e.seg]++
	if e.client != 0 {
		k.perClient[e.client]++
		k.counted++
	}
	k.active.push(e)
}

// markUnrecorded marks the key of a successful claim that could not be written.
func (k *keySet) markUnrecorded(c *Claim) {
	key, _ := hashClaim(c)
	k.recorded[key] = false
}

// isRecorded reports whether the key of a claim is held and was written.
func (k *keySet) isRecorded(c *Claim) bool {
	key, _ := hashClaim(c)
	return k.recorded[key]
}

// load adds an entry from a file and restarts its monotonic lifetime. An entry
// that has expired by the wall clock is kept, since that clock may have been
// set between the runs, but does not count against its client, or a restart
// would halve the capacity. load reports whether the entry was new.
func (k *keySet) load(e entry, t instant) bool {
	if _, ok := k.recorded[e.key]; ok {
		return false
	}
	if e.wall < t.wall {
		e.client = 0
	}
	k.add(e, t)
	return true
}

// expire removes keys that have expired by both clocks: at most expireFloor +
// 2*adding from either heap.
func (k *keySet) expire(t instant, adding int) {
	budget := expireFloor + 2*adding
	for n := budget; n > 0 && len(k.active) > 0 && k.active[0].due < t.mono; n-- {
		over := k.active[0].wall < t.wall
		if !over && len(k.graced) >= k.max {
			break // keep them active and counted: a full store refuses, it does not forget
		}
		e := k.active.pop()
		k.release(e.client)
		if over {
			k.forget(e)
			continue
		}
		e.client, e.due = 0, e.wall
		k.graced.push(e)
	}
	for n := budget; n > 0 && len(k.graced) > 0 && k.graced[0].due < t.wall; n-- {
		k.forget(k.graced.pop())
	}
	if len(k.recorded) == 0 && cap(k.active)+cap(k.graced) > keepCapacity {
		// Neither maps nor slices release memory when they shrink.
		k.recorded, k.active, k.graced = map[digest]bool{}, nil, nil
	}
}

func (k *keySet) forget(e entry) {
	delete(k.recorded, e.key)
	k.live[e.seg]--
}

func (k *keySet) release(client uint64) {
	if client == 0 {
		return
	}
	k.counted--
	if k.perClient[client]--; k.perClient[client] == 0 {
		delete(k.perClient, client)
	}
}

// each calls f with every entry of segment seg, in no particular order.
func (k *keySet) each(seg uint8, f func(entry)) {
	for _, h := range []entryHeap{k.active, k.graced} {
		for i := range h {
			if h[i].seg == seg {
				f(h[i])
			}
		}
	}
}

// hashClaim returns the claim's key, SHA-256 of kind || u32 len || client ||
// nonce truncated to 16 bytes, and its client, SHA-256 of the ID truncated to 8
// bytes and never 0.
func hashClaim(c *Claim) (digest, uint64) {
	var stack [256]byte // enough for the usual IDs and nonces; longer ones escape to the heap
	buf := append(stack[:0], byte(c.Kind))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(c.Client))) // an ID has at most 65535 bytes
	buf = append(buf, c.Client...)
	client := sha256.Sum256(buf[claimPrefix:])
	sum := sha256.Sum256(append(buf, c.Nonce...))
	return digest(sum[:16]), max(1, binary.BigEndian.Uint64(client[:]))
}

// entryHeap is a binary heap, earliest due first.
type entryHeap []entry

func (h *entryHeap) push(e entry) {
	*h = append(*h, e)
	s := *h
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if s[parent].due <= e.due {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = e
}

// pop removes the first entry of a non-empty heap.
func (h *entryHeap) pop() entry {
	s := *h
	first, last := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	*h = s
	if len(s) == 0 {
		return first
	}

	i := 0
	for {
		child := 2*i + 1
		if child >= len(s) {
			break
		}
		if child+1 < len(s) && s[child+1].due < s[child].due {
			child++
		}
		if last.due <= s[child].due {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = last
	return first
}
