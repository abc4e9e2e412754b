package filter

import (
	"math/bits"
	"sync/atomic"

	"github.com/cilium/ebpf/asm"
)

// bucketTags is how many tags a bucket has room for: a cache line of them.
const bucketTags = 8

// tags is a set of tags in memory that the program reads. Each tag has two
// buckets that it may be in and goes to the emptier one, which keeps them so even
// that at half load none overflows. A tag never moves, so that whoever looks for
// it while others come and go finds it. What is added twice is there twice.
type tags struct {
	places []uint64 // a power of two of buckets; 0 is an empty place
	spilt  map[uint64]int
	n      int // in places
}

// bucketsFor is how many buckets n tags need, at least fewest, with at most half
// of the places in use.
func bucketsFor(n int) int {
	return max(fewestBuckets, 1<<bits.Len(uint((2*n-1)/bucketTags)))
}

const fewestBuckets = 64

// buckets returns the two buckets of a tag. (The lowest bit of a tag is no part
// of its hash; the numbers come from the other end.)
func (t *tags) buckets(tag uint64) (a, b []uint64) {
	n := len(t.places) / bucketTags
	bit := bits.Len(uint(n)) - 1
	at := func(i uint64) []uint64 { return t.places[i*bucketTags : (i+1)*bucketTags] }
	return at(tag >> (64 - bit)), at(tag << bit >> (64 - bit))
}

// free returns an empty place of a bucket, and how many there are.
func free(bucket []uint64) (at *uint64, n int) {
	for i := range bucket {
		if bucket[i] == 0 {
			at = &bucket[i]
			n++
		}
	}
	return at, n
}

// place puts a tag into a bucket and reports whether there was room.
func (t *tags) place(tag uint64) bool {
	a, b := t.buckets(tag)
	at, n := free(a)
	if other, more := free(b); more > n {
		at = other
	}
	if at == nil {
		return false
	}
	atomic.StoreUint64(at, tag)
	t.n++
	return true
}

// add puts a tag into the set. One for which there is no room is spilt.
func (t *tags) add(tag uint64) {
	if !t.place(tag) {
		t.spilt[tag]++
	}
}

// remove takes a tag that was added out of the set, and brings in what was
// spilt if that has room now.
func (t *tags) remove(tag uint64) {
	if !t.displace(tag) {
		t.unspill(tag)
		return
	}
	for s := range t.spilt {
		if t.place(s) {
			t.unspill(s)
		}
	}
}

func (t *tags) displace(tag uint64) bool {
	a, b := t.buckets(tag)
	for _, bucket := range [][]uint64{a, b} {
		for i := range bucket {
			if bucket[i] == tag {
				atomic.StoreUint64(&bucket[i], 0)
				t.n--
				return true
			}
		}
	}
	return false
}

func (t *tags) unspill(tag uint64) {
	if t.spilt[tag]--; t.spilt[tag] <= 0 {
		delete(t.spilt, tag)
	}
}

// find is a subprogram: whether the tag in R1 is in the map, whose buckets begin
// at the index in R2. It leaves 1 or 0 in R0.
func (a *assembler) find(name string, fd, buckets int) {
	const tag, base, index = asm.R6, asm.R7, -8
	bit := int32(bits.Len(uint(buckets)) - 1)
	found, missed := name+" found", name+" missed"
	a.here(name)
	a.emit(asm.Mov.Reg(tag, asm.R1), asm.Mov.Reg(base, asm.R2))
	for _, skip := range []int32{0, bit} {
		a.emit(
			asm.Mov.Reg(asm.R1, tag),
			asm.LSh.Imm(asm.R1, skip),
			asm.RSh.Imm(asm.R1, 64-bit),
			asm.Add.Reg(asm.R1, base),
			asm.StoreMem(frame, index, asm.R1, asm.Word),
			asm.LoadMapPtr(asm.R1, fd),
			asm.Mov.Reg(asm.R2, frame),
			asm.Add.Imm(asm.R2, index),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, missed),
		)
		for i := range bucketTags {
			a.emit(
				asm.LoadMem(asm.R1, asm.R0, int16(8*i), asm.DWord),
				asm.JEq.Reg(asm.R1, tag, found),
			)
		}
	}
	a.here(missed)
	a.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	a.here(found)
	a.emit(asm.Mov.Imm(asm.R0, 1), asm.Return())
}
