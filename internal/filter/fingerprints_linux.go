package filter

import (
	"math/bits"
	"sync/atomic"
)

const (
	// bucketSlots is how many fingerprints a bucket has room for: a cache line.
	bucketSlots = 8
	bucketSize  = 8 * bucketSlots // bytes
	minBuckets  = 64
)

// fingerprints is a multiset of fingerprints in memory that the program reads.
// Each fingerprint has two buckets that it may be in and goes to the emptier
// one, which keeps them so even that at half load none overflows. A fingerprint
// never moves, so that the program finds it while others come and go. One that
// is added twice is there twice.
type fingerprints struct {
	slots    []uint64 // a power of two of buckets; 0 is a free slot
	overflow map[uint64]int
	n        int // in slots
}

// bucketsFor returns how many buckets n fingerprints need, at least minBuckets,
// with at most half of the slots in use.
func bucketsFor(n int) int {
	return max(minBuckets, 1<<bits.Len(uint((2*n-1)/bucketSlots)))
}

// indexBits returns how many bits an index of n buckets has, a power of two.
func indexBits(n int) int { return bits.Len(uint(n)) - 1 }

// buckets returns the two buckets of a fingerprint. (The lowest bit of a
// fingerprint is no part of its hash; the indexes come from the other end.)
func (f *fingerprints) buckets(hash uint64) (a, b []uint64) {
	bit := indexBits(len(f.slots) / bucketSlots)
	at := func(i uint64) []uint64 { return f.slots[i*bucketSlots : (i+1)*bucketSlots] }
	return at(hash >> (64 - bit)), at(hash << bit >> (64 - bit))
}

// freeSlot returns a free slot of a bucket, and how many there are.
func freeSlot(bucket []uint64) (slot *uint64, n int) {
	for i := range bucket {
		if bucket[i] == 0 {
			slot = &bucket[i]
			n++
		}
	}
	return slot, n
}

// insert puts a fingerprint into a bucket and reports whether there was room.
func (f *fingerprints) insert(hash uint64) bool {
	a, b := f.buckets(hash)
	slot, n := freeSlot(a)
	if other, more := freeSlot(b); more > n {
		slot = other
	}
	if slot == nil {
		return false
	}
	atomic.StoreUint64(slot, hash)
	f.n++
	return true
}

// add puts a fingerprint into the set. One for which there is no room goes to
// the overflow.
func (f *fingerprints) add(hash uint64) {
	if !f.insert(hash) {
		f.overflow[hash]++
	}
}

// delete takes a fingerprint that was added out of the set, and moves in those
// of the overflow that have room now.
func (f *fingerprints) delete(hash uint64) {
	if !f.remove(hash) {
		f.forget(hash)
		return
	}
	for other := range f.overflow {
		if f.insert(other) {
			f.forget(other)
		}
	}
}

// remove frees a fingerprint's slot and reports whether it had one.
func (f *fingerprints) remove(hash uint64) bool {
	a, b := f.buckets(hash)
	for _, bucket := range [][]uint64{a, b} {
		for i := range bucket {
			if bucket[i] == hash {
				atomic.StoreUint64(&bucket[i], 0)
				f.n--
				return true
			}
		}
	}
	return false
}

// forget removes a fingerprint from the overflow.
func (f *fingerprints) forget(hash uint64) {
	if f.overflow[hash]--; f.overflow[hash] <= 0 {
		delete(f.overflow, hash)
	}
}
