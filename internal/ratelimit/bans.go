package ratelimit

import (
	"iter"
	"time"
)

// BanPolicy says after how many failures, within what time of each other, a
// source is banned, and for how long. The zero BanPolicy bans no source.
type BanPolicy struct {
	After  int
	Within time.Duration
	For    time.Duration
}

// Failures is what is known of a source that has failed.
type Failures struct {
	Count int           // since First
	First time.Duration // the failure that counting began with
	Until time.Duration // the source is banned until then; 0 if it was never
}

// Bans counts the failures of sources. It is not safe for concurrent use.
type Bans[K comparable] struct {
	policy  BanPolicy
	max     int
	sources map[K]*Failures
}

// NewBans returns an empty Bans that remembers maxSources sources, some 100
// bytes each. Failures of further ones are not recorded until old ones are
// over: a ban saves work, and nothing relies on it.
func NewBans[K comparable](policy BanPolicy, maxSources int) *Bans[K] {
	return &Bans[K]{policy: policy, max: maxSources, sources: make(map[K]*Failures)}
}

// SetPolicy replaces the policy, for bans and failures to come.
func (b *Bans[K]) SetPolicy(p BanPolicy) { b.policy = p }

// Fail records a failure of a source. It reports whether a ban begins with it,
// and after how many failures.
func (b *Bans[K]) Fail(source K, now time.Duration) (failures int, banned bool) {
	if b.policy.After <= 0 {
		return 0, false
	}
	f := b.sources[source]
	if f == nil {
		if len(b.sources) >= b.max {
			return 0, false
		}
		f = &Failures{First: now}
		b.sources[source] = f
	}

	if now-f.First > b.policy.Within {
		f.Count, f.First = 0, now
	}
	if f.Count++; f.Count < b.policy.After {
		return f.Count, false
	}
	failures = f.Count
	banned = f.Until <= now // false for a handshake that began before the ban
	f.Until = now + b.policy.For
	f.Count, f.First = 0, now
	return failures, banned
}

// Banned reports whether a source is banned.
func (b *Bans[K]) Banned(source K, now time.Duration) bool {
	f := b.sources[source]
	return f != nil && f.Until > now
}

// Len returns how many sources are remembered, banned or not.
func (b *Bans[K]) Len() int { return len(b.sources) }

// All iterates over the sources that are remembered, in no order. The caller
// may remove any of them, or let others add some, between two steps.
func (b *Bans[K]) All() iter.Seq2[K, Failures] {
	return func(yield func(K, Failures) bool) {
		for k, f := range b.sources {
			if !yield(k, *f) {
				return
			}
		}
	}
}

// Remove forgets a source, and ends its ban.
func (b *Bans[K]) Remove(source K) { delete(b.sources, source) }

// Sweep forgets those of n sources that are not banned and whose failures are
// over. The order of a map is random, so later calls reach the others.
func (b *Bans[K]) Sweep(n int, now time.Duration) {
	for k, f := range b.sources {
		if f.Until <= now && now-f.First > b.policy.Within {
			delete(b.sources, k)
		}
		if n--; n == 0 {
			return
		}
	}
}
