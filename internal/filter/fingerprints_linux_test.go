package filter

import (
	"math/rand/v2"
	"testing"
)

func newFingerprints(buckets int) *fingerprints {
	return &fingerprints{slots: make([]uint64, buckets*bucketSlots), overflow: make(map[uint64]int)}
}

// has looks a fingerprint up as the program does, and in the overflow.
func (f *fingerprints) has(hash uint64) bool {
	a, b := f.buckets(hash)
	for _, bucket := range [][]uint64{a, b} {
		for _, x := range bucket {
			if x == hash {
				return true
			}
		}
	}
	return f.overflow[hash] > 0
}

func TestFingerprintsCountAdditions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	set := newFingerprints(minBuckets)
	hashes := make([]uint64, 900) // more than there is room for
	for i := range hashes {
		hashes[i] = random.Uint64() | 1
	}
	count := make(map[uint64]int)
	maxOverflow := 0
	for step := range 50_000 {
		x := hashes[random.IntN(len(hashes))]
		if random.IntN(2) == 0 && count[x] < 3 {
			set.add(x)
			count[x]++
		} else if count[x] > 0 {
			set.delete(x)
			count[x]--
		}
		maxOverflow = max(maxOverflow, len(set.overflow))
		if step%100 > 0 {
			continue
		}
		for _, x := range hashes {
			if set.has(x) != (count[x] > 0) {
				t.Fatalf("step %d: has %v for a fingerprint that was added %d times", step, set.has(x), count[x])
			}
		}
	}
	if maxOverflow == 0 {
		t.Error("nothing overflowed")
	}
	for x, n := range count {
		for range n {
			set.delete(x)
		}
	}
	for i, x := range set.slots {
		if x != 0 {
			t.Fatalf("slot %d is not free", i)
		}
	}
	if len(set.overflow) != 0 {
		t.Errorf("%d fingerprints in the overflow of an empty set", len(set.overflow))
	}
}

func TestFingerprintsFitAtHalfLoad(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 1000, 100_000, 1 << 17} {
		set := newFingerprints(bucketsFor(n))
		for range n {
			set.add(random.Uint64() | 1)
		}
		if len(set.overflow) > 0 {
			t.Errorf("%d fingerprints, %d in the overflow", n, len(set.overflow))
		}
	}
}
