// Package ratelimit bounds how often something may happen: token buckets,
// tables of them for sources whose number is unbounded, and bans of sources
// that keep failing. Nothing in it locks or allocates per call, and time is an
// argument: a reading of a monotonic clock, from any origin.
package ratelimit

import (
	"math"
	"time"
)

// Rate is how fast a Bucket fills, in tokens a second, and how many tokens it
// holds when it is full. Both must be positive.
type Rate struct{ PerSecond, Burst float64 }

// perToken is how many nanoseconds a token takes to come.
func (r Rate) perToken() float64 { return float64(time.Second) / r.PerSecond }

// Bucket is a token bucket. It keeps when it will be full again instead of a
// number of tokens (the generic cell rate algorithm of ITU-T I.371), so it has
// 8 bytes, and the zero Bucket is a full one.
type Bucket struct{ fullAt time.Duration }

// Take takes n tokens, if there are that many, and reports whether there were.
// The time that n tokens take is rounded down to nanoseconds, so that a whole
// burst always fits.
func (b *Bucket) Take(n float64, r Rate, now time.Duration) bool {
	perToken := r.perToken()
	fullAt := max(b.fullAt, now) + time.Duration(n*perToken)
	if fullAt-now > time.Duration(r.Burst*perToken) {
		return false
	}
	b.fullAt = fullAt
	return true
}

// Used returns how many tokens are missing from a full bucket, rounded up.
func (b *Bucket) Used(r Rate, now time.Duration) int {
	return int(math.Ceil(float64(max(0, b.fullAt-now)) / r.perToken()))
}
