package auth

import (
	"errors"
	"sync"
	"time"
)

// Replay remembers nonces. It must be safe for concurrent use.
type Replay interface {
	// Claim marks (client, nonce) as seen until a time, atomically. It returns
	// an error that is ErrReplayed if the pair is marked already, and
	// ErrReplayFull if there is no room. Any other error means that the mark
	// could not be recorded. The message is refused in each case, but only
	// ErrReplayed counts against its sender. nonce is borrowed until Claim
	// returns. until has a monotonic reading if the clock gave one: forget the
	// pair only when both clocks are past it.
	Claim(client string, nonce []byte, until time.Time) error
}

// Errors of a Replay.
var (
	ErrReplayed   = errors.New("auth: this message was seen before")
	ErrReplayFull = errors.New("auth: the replay store is full")
)

// replaySlack is how much longer than twice the window a nonce is remembered:
// both ends of the window are inclusive, and times on the wire are in
// milliseconds.
const replaySlack = time.Second

// replayAge is how long a nonce claimed now must be remembered: a message dated
// one window ahead is fresh until two windows from now.
func replayAge(window time.Duration) time.Duration { return 2*window + replaySlack }

// Limits of a MemoryReplay, in nonces of about 100 bytes each.
const (
	// MaxReplays is for all clients together: 17,000 connections a second for
	// 61 s.
	MaxReplays = 1 << 20
	// MaxReplaysPerClient is for one client: 4,000 connections a second.
	MaxReplaysPerClient = 1 << 18
	// ReservedReplays are available to each client even if others use all the
	// rest.
	ReservedReplays = 1 << 10
)

// MemoryReplay is a Replay in memory, bounded per client and in total. After a
// restart, captured messages are accepted again while they are fresh; use a
// Replay on disk to prevent that.
type MemoryReplay struct {
	now func() time.Time

	mu      sync.Mutex
	clients map[string]*nonceSet
	total   int
}

// nonceSet is the nonces of one client. Expiry starts with the oldest claim, so
// it costs only what expires.
type nonceSet struct {
	nonces map[string]struct{}
	queue  []nonceExpiry // in order of claim
}

type nonceExpiry struct {
	nonce string
	until time.Time
}

// NewMemoryReplay returns an empty store. now is the clock for expiry; nil means
// time.Now.
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

// forget removes expired nonces and returns their number.
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

// isPast reports whether now is past until on the monotonic clock (if both have
// a reading) and on the wall clock, so that a clock step permits no replay.
func isPast(now, until time.Time) bool {
	return now.After(until) && now.Round(0).After(until.Round(0))
}
