package replay

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Kind keeps the replay keys of different messages apart: the same nonce may appear once in each.
// The numbers are part of what a file store writes; never renumber them.
type Kind uint8

// The kinds of claim, and what their nonce is. (docs/wire-formats.md, Grants and replays.)
const (
	KindUDP    Kind = 1 // a UDP knock: the datagram's 16-byte nonce
	KindTCPv1  Kind = 2 // TCP frame v1: its 16-byte nonce
	KindTCPv2  Kind = 3 // TCP envelope v2: its 24-byte prefix
	KindSYN    Kind = 4 // a SYN knock: port, slot and fields
	KindSYNSeq Kind = 5 // a completed SYN sequence: port, slot and the last part's fields
	KindUDPv2  Kind = 6 // a udp-v2 knock: the datagram's 24-byte nonce
)

// Claim asks a Store for one replay key.
type Claim struct {
	Kind     Kind
	Client   string        // the client's id; also whom the key is counted against
	Nonce    []byte        // borrowed until Store.Claim returns
	Lifetime time.Duration // for how long the message could still be fresh; at most MaxLifetime

	// Err is the answer. Nil: the key was free and is now the caller's. ErrReplayed: it was the caller's
	// or another's before. ErrFull, ErrInvalidClaim, ErrClosed: refused. Anything else is
	// ErrUnrecorded, and refused as well: what could not be written would be forgotten by a restart.
	// Only ErrReplayed says anything about the message and its sender.
	Err error
}

// Store remembers which messages were already accepted. It is safe for concurrent use.
type Store interface {
	// Claim answers every claim of the batch in its Err, in order: of two equal claims in one batch
	// the second is a replay. A key is checked and marked in one step. A key refused with an I/O error
	// stays marked, so that a copy of the message cannot succeed where the message failed; claimed
	// again, it is ErrUnrecorded, for it never was anyone's. An empty batch only forgets what is over.
	Claim(batch []Claim)
	// Close gives up what the store holds; claims fail with ErrClosed from then on.
	Close() error
}

// Usage is how much of a limited resource is used. For a limit that counts for
// each client, Used is that of the client that has the most.
type Usage struct {
	Resource    string // a metric label
	Used, Limit int
}

// The refusals of a Store.
var (
	ErrReplayed     = errors.New("message was already used")
	ErrFull         = errors.New("replay store is full, or full of this client's keys")
	ErrInvalidClaim = errors.New("claim without kind, nonce or a lifetime within bounds")
	ErrClosed       = errors.New("replay store is closed")
	// ErrUnrecorded says that the store could not record the key: its disk is full, gone or read-only.
	ErrUnrecorded = errors.New("replay store could not record the message")
)

const (
	// DefaultMaxKeys is how many keys a store holds that may still be replayed. With the usual 61 s
	// of lifetime it is room for 17,000 messages a second. A key takes about 100 bytes of memory
	// while it lives (48 in a heap, 20 to 40 in the map, the rest is slack of growing), so a full
	// store takes some 100 MB; an idle one takes nothing.
	DefaultMaxKeys = 1 << 20

	// perClientShare is the default of MaxPerClient as a part of MaxKeys: a quarter, 262,144 keys or
	// 4,200 messages a second, which is more than one client was measured to open as connections.
	perClientShare = 4

	// MaxLifetime bounds a key's lifetime. The longest that configuration leads to is three
	// slots of 5 minutes; a day is far from that and far from overflowing anything.
	MaxLifetime = 24 * time.Hour
)

// Options are the options of both stores; the zero value is fit for use.
type Options struct {
	// Now is the wall clock, by which messages are dated; time.Now when nil.
	Now func() time.Time
	// Mono is a clock that is never set, from any origin; the time since the store was made when nil.
	Mono func() time.Duration
	// MaxKeys bounds the keys held that may still be replayed; DefaultMaxKeys when 0.
	MaxKeys int
	// MaxPerClient bounds the keys of one client; a quarter of MaxKeys when 0. Apart from it, nobody
	// may have more keys than there are free ones, so n greedy clients leave one part in n+1 to the
	// others, and a single client fills half of a store at most.
	MaxPerClient int
	// Logger hears of damage found in files and of failures to rotate them; nobody does when nil.
	Logger *slog.Logger

	// open opens a segment for writing at offsets; tests put a faulty one here.
	open func(name string) (segmentFile, error)
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Mono == nil {
		start := time.Now()
		o.Mono = func() time.Duration { return time.Since(start) }
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = DefaultMaxKeys
	}
	if o.MaxPerClient <= 0 {
		o.MaxPerClient = max(1, o.MaxKeys/perClientShare)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.open == nil {
		o.open = openSegment
	}
	return o
}

// MemoryStore is a Store that ends with the process: after a restart, a message that was captured
// within its window is accepted once more.
type MemoryStore struct {
	opts Options

	mu     sync.Mutex
	keys   *keySet
	closed bool
}

// NewMemoryStore returns an empty store.
func NewMemoryStore(opts Options) *MemoryStore {
	opts = opts.withDefaults()
	return &MemoryStore{opts: opts, keys: newKeySet(opts.MaxKeys, opts.MaxPerClient)}
}

// Claim implements Store.
func (s *MemoryStore) Claim(batch []Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		refuseAll(batch, ErrClosed)
		return
	}
	t := s.opts.instant()
	s.keys.expire(t, len(batch))
	for i := range batch {
		_, batch[i].Err = s.keys.claim(&batch[i], t, 0)
	}
}

// Bounds returns how full the store is.
func (s *MemoryStore) Usage() []Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.keys.expire(s.opts.instant(), expireWhenFull)
	return s.keys.usage()
}

// Close implements Store. It never fails.
func (s *MemoryStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.keys = nil
	return nil
}

// instant is one reading of both clocks.
type instant struct {
	wall int64 // Unix milliseconds
	mono int64 // nanoseconds of the monotonic clock
}

func (o *Options) instant() instant {
	return instant{wall: o.Now().UnixMilli(), mono: int64(o.Mono())}
}

func refuseAll(batch []Claim, err error) {
	for i := range batch {
		batch[i].Err = err
	}
}
