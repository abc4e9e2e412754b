package auth

import (
	"errors"
	"sync"
	"time"
)

// Replay remembers which nonces were seen. It must be safe for concurrent use.
type Replay interface {
	// Claim marks (client, nonce) as seen until a time, atomically. It fails with an error that is
	// ErrReplayed if the pair is marked already, and with one that is ErrReplayFull if there is no
	// room. Any other error says that the mark could not be recorded. The message is refused in each
	// case, but only ErrReplayed is held against its sender. nonce is borrowed until Claim returns.
	// until carries a monotonic reading where the clock gave one: forget only when both clocks are
	// past it.
	Claim(client string, nonce []byte, until time.Time) error
}

// What a Replay answers when it does not answer nil.
var (
	ErrReplayed   = errors.New("auth: this message was seen before")
	ErrReplayFull = errors.New("auth: the replay store is full")
)

// replaySlack is how much longer than twice the window a nonce is remembered: a message is fresh at
// both ends of the window inclusive, and clocks tick in whole milliseconds on the wire.
const replaySlack = time.Second

// replayAge is how long a nonce claimed now must be remembered: a message dated one window ahead is
// fresh until two windows from now.
func replayAge(window time.Duration) time.Duration { return 2*window + replaySlack }

// Limits of a MemoryReplay, in nonces of about 100 bytes each.
const (
	// MaxReplays is for all clients together: 1,000 connections a second for 61 s, 17 times.
	MaxReplays = 1 << 20
	// MaxReplaysPerClient is for one: what a client that connects 4,000 times a second needs.
	MaxReplaysPerClient = 1 << 18
	// ReservedReplays are a client's own even when others have filled the rest.
	ReservedReplays = 1 << 10
)

// MemoryReplay is a Replay in memory, bounded for each client and in all. A restart forgets it: where
// a captured message must not work again after one, use a Replay that is stored.
type MemoryReplay struct {
	now func() time.Time

	mu      sync.Mutex
	clients map[string]*nonceSet
	total   int
}

// nonceSet are one client's nonces. Expiry is checked from the oldest claim on, so it costs what expires.
type nonceSet struct {
	nonces map[string]struct{}
	queue  []nonceExpiry // in order of claim
}

type nonceExpiry struct {
	nonce string
	until time.Time
}

// NewMemoryReplay returns an empty store. now is the clock that it forgets by; nil means time.Now.
func NewMemoryReplay(now func() time.Time) *MemoryReplay {
	if now == nil {
		now = time.Now
	}
	return &MemoryReplay{now: now, clients: make(map[string]*nonceSet)}
}

// Claim implements Replay.
func (r *MemoryReplay) Claim(client string, nonce []byte, until time.Time) error {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.clients[client]
	if mine == nil {
		mine = &nonceSet{nonces: make(map[string]struct{})}
		r.clients[client] = mine
	}
	r.total -= mine.forget(now)
	if _, found := mine.nonces[string(nonce)]; found {
		return ErrReplayed
	}
	n := len(mine.nonces)
	if n >= MaxReplaysPerClient || (r.total >= MaxReplays && n >= ReservedReplays) {
		return ErrReplayFull
	}
	key := string(nonce)
	mine.nonces[key] = struct{}{}
	mine.queue = append(mine.queue, nonceExpiry{nonce: key, until: until})
	r.total++
	return nil
}

// forget drops what has expired and returns how much that was.
func (s *nonceSet) forget(now time.Time) int {
	n := 0
	for n < len(s.queue) && isPast(now, s.queue[n].until) {
		delete(s.nonces, s.queue[n].nonce)
		n++
	}
	clear(s.queue[:n])
	s.queue = s.queue[n:]
	return n
}

// isPast reports whether now is past until on the monotonic clock (where both have a reading) and on the
// wall clock: a clock that was stepped re-opens nothing.
func isPast(now, until time.Time) bool {
	return now.After(until) && now.Round(0).After(until.Round(0))
}
