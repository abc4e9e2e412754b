package ratelimit

import (
	"hash/maphash"
	"time"
)

const (
	// TableSize is the number of buckets of a Table, 8 bytes each. Where there
	// are more keys, some share a bucket, at random.
	TableSize = 1 << 13

	// ReseedInterval is how long keys that share a bucket share it: a few
	// attempts of a client. A source that floods finds a full bucket after it.
	ReseedInterval = 5 * time.Second
)

// A Table is buckets of one rate for any number of keys, in fixed memory.
type Table [TableSize]Bucket

// A Seed decides which keys of the tables that it is used with share a bucket.
// An attacker cannot compute it.
type Seed struct {
	seed  maphash.Seed
	drawn time.Duration
}

// NewSeed returns a random seed.
func NewSeed(now time.Duration) Seed { return Seed{seed: maphash.MakeSeed(), drawn: now} }

// Rotate replaces s by another seed every ReseedInterval, so that a source that
// shares a bucket with a flood is not starved for as long as the flood lasts.
// The levels of the buckets are kept.
func (s *Seed) Rotate(now time.Duration) {
	if now-s.drawn >= ReseedInterval {
		*s = NewSeed(now)
	}
}

// Lookup returns the bucket of a key.
func Lookup[K comparable](t *Table, s *Seed, key K) *Bucket {
	return &t[maphash.Comparable(s.seed, key)%TableSize]
}
