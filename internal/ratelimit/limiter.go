package ratelimit

import (
	"sync"
	"time"
)

// A Limiter is a Bucket that is safe for concurrent use and reads the monotonic
// clock itself.
type Limiter struct {
	rate  Rate
	start time.Time

	mu     sync.Mutex
	bucket Bucket
}

// NewLimiter returns a Limiter that is full.
func NewLimiter(r Rate) *Limiter { return &Limiter{rate: r, start: time.Now()} }

// Allow takes a token, if there is one, and reports whether there was.
func (l *Limiter) Allow() bool {
	now := time.Since(l.start)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bucket.Take(1, l.rate, now)
}

// Used returns how many tokens are missing from a full bucket, rounded up, and
// how many a full one holds.
func (l *Limiter) Used() (used, limit int) {
	now := time.Since(l.start)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bucket.Used(l.rate, now), int(l.rate.Burst)
}
