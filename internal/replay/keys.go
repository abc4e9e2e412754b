package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// What a store knows, in memory: a set of keys and the order in which they end.
//
//	                 the monotonic              the wall clock
//	 claimed  ──►  running  ── clock is past ──►  lingering ── is past ──►  forgotten
//	                 │                                              ▲
//	                 └───────── both clocks are past ───────────────┘
//
// A clock stepped forward ends nothing early, because running keys wait for the monotonic clock; a
// clock stepped back lets its messages become fresh again, so their keys linger until it has caught
// up. (What was forgotten before a clock was set back stays forgotten: only a key kept for ever could
// refuse such a message.) Lingering keys are not counted against anybody: a clock that was years ahead for a moment must
// not jam the store for years.

const (
	// expireFloor is how many keys a call may forget besides two for each that it adds: enough that
	// an idle store empties, and under 10 us of work.
	expireFloor = 32
	// expireWhenFull is how many more it may forget when a claim would be refused for want of room:
	// some 0.5 ms once, instead of a refusal that old keys do not justify.
	expireWhenFull = 2048
	// claimPrefix is the size of what precedes the client's id in a hashed claim: kind and length.
	claimPrefix = 1 + 4
	// keepCapacity is the number of keys below which an emptied store keeps its memory (100 KB).
	keepCapacity = 1024
)

// digest is a truncated SHA-256 of a claim; 128 bits is past any chance of two messages meeting.
type digest [16]byte

// entry is 48 bytes without a pointer, so that a million of them cost the collector nothing.
type entry struct {
	key    digest
	due    int64  // running: monotonic nanoseconds; lingering: the same as wall
	wall   int64  // Unix milliseconds at which the wall clock says it is over
	client uint64 // whom it is counted against; 0: nobody
	life   uint32 // milliseconds, for counting the monotonic lifetime anew after a restart
	seg    uint8  // the file segment it is in; 0 in a store in memory
}

// keySet is not safe for concurrent use: its store's lock guards it.
type keySet struct {
	recorded    map[digest]bool // whether the key was recorded; false after an I/O error
	active      entryHeap
	graced      entryHeap
	perClient   map[uint64]int
	live        [segmentCount]int // keys held of each segment
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

// usage returns how many keys are counted against clients, and against the one that has
// the most.
func (k *keySet) usage() []Usage {
	of := 0
	for _, n := range k.perClient {
		of = max(of, n)
	}
	return []Usage{{"replay_keys", k.counted, k.max}, {"replay_keys_per_client", of, k.maxClient}}
}

// claim marks the claim's key as belonging to segment seg and returns its entry, or says why not.
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
	// Rounded up, and strictly later than the last fresh millisecond.
	life := uint32((c.Lifetime + time.Millisecond - 1) / time.Millisecond)
	e := entry{key: key, wall: t.wall + int64(life), client: client, life: life, seg: seg}
	k.add(e, t)
	return e, nil
}

// clientLimit is how many keys a client may have now: as many as are free, at most maxClient.
func (k *keySet) clientLimit() int { return min(k.maxClient, k.max-k.counted) }

// add starts e's monotonic lifetime now.
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

// markUnrecorded notes that the key of a claim that was answered with nil could not be written after all.
func (k *keySet) markUnrecorded(c *Claim) {
	key, _ := hashClaim(c)
	k.recorded[key] = false
}

// isRecorded reports whether the key of a claim is held and was recorded.
func (k *keySet) isRecorded(c *Claim) bool {
	key, _ := hashClaim(c)
	return k.recorded[key]
}

// load adds an entry read from a file, whose monotonic lifetime starts anew. One whose time is over by
// the wall clock is kept, since that clock may have been set while nobody looked, but is counted
// against nobody, or a restart would halve the room. It reports whether the entry was new.
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

// expire forgets what both clocks say is over: at most expireFloor + 2*adding keys from either heap.
func (k *keySet) expire(t instant, adding int) {
	budget := expireFloor + 2*adding
	for n := budget; n > 0 && len(k.active) > 0 && k.active[0].due < t.mono; n-- {
		over := k.active[0].wall < t.wall
		if !over && len(k.graced) >= k.max {
			break // keep them running, and counted: a full store refuses, it does not forget
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
		// Neither maps nor slices give memory back on their own.
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

// each calls f with every entry of segment seg, in no order.
func (k *keySet) each(seg uint8, f func(entry)) {
	for _, h := range []entryHeap{k.active, k.graced} {
		for i := range h {
			if h[i].seg == seg {
				f(h[i])
			}
		}
	}
}

// hashClaim returns the claim's key, SHA-256 of kind || u32 len || client || nonce cut to 16 bytes, and
// whom it counts against, SHA-256 of the client cut to 8 and never 0.
func hashClaim(c *Claim) (digest, uint64) {
	var stack [256]byte // an id and a nonce of usual length; longer ones spill to the heap
	buf := append(stack[:0], byte(c.Kind))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(c.Client))) // an id has 65535 bytes at most
	buf = append(buf, c.Client...)
	client := sha256.Sum256(buf[claimPrefix:])
	sum := sha256.Sum256(append(buf, c.Nonce...))
	return digest(sum[:16]), max(1, binary.BigEndian.Uint64(client[:]))
}

// entryHeap is a binary heap, the earliest due first.
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

// pop takes the first entry off a heap that is not empty.
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
