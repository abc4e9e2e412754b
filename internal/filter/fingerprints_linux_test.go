package filter

import (
	"math/rand/v2"
	"testing"
)

func newFingerprints(buckets int) *fingerprints {
	return &fingerprints{slots: make([]uint64, buckets*bucketSlots), overflow: make(map[uint64]int)}
}

// has is what the program does, and then looks whether anything is spilt.
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

func TestATagIsThereForAsOftenAsItWasAdded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	set := newFingerprints(minBuckets)
	tag := make([]uint64, 900) // more than there is room for
	for i := range tag {
		tag[i] = random.Uint64() | 1
	}
	count := make(map[uint64]int)
	spilt := 0
	for step := range 50_000 {
		x := tag[random.IntN(len(tag))]
		if random.IntN(2) == 0 && count[x] < 3 {
			set.add(x)
			count[x]++
		} else if count[x] > 0 {
			set.delete(x)
			count[x]--
		}
		spilt = max(spilt, len(set.overflow))
		if step%100 > 0 {
			continue
		}
		for _, x := range tag {
			if set.has(x) != (count[x] > 0) {
				t.Fatalf("step %d: a tag was added %d times, and there it is: %v", step, count[x], set.has(x))
			}
		}
	}
	if spilt == 0 {
		t.Error("nothing was spilt")
	}
	for x, n := range count {
		for range n {
			set.delete(x)
		}
	}
	for i, x := range set.slots {
		if x != 0 {
			t.Fatalf("place %d is not empty", i)
		}
	}
	if len(set.overflow) != 0 {
		t.Errorf("%d tags are spilt of none", len(set.overflow))
	}
}

func TestNothingIsSpiltAtHalfLoad(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 1000, 100_000, 1 << 17} {
		set := newFingerprints(bucketsFor(n))
		for range n {
			set.add(random.Uint64() | 1)
		}
		if len(set.overflow) > 0 {
			t.Errorf("of %d tags %d are spilt", n, len(set.overflow))
		}
	}
}
