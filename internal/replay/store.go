package replay

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Kind separates the keys of different kinds of message: each may use the same
// nonce once. The numbers are part of the keys in files; never renumber them.
type Kind uint8

// The kinds of message and their nonces. (docs/wire-formats.md, Grants and
// replays.)
const (
	KindUDP    Kind = 1 // a UDP knock: the datagram's 16-byte nonce
	KindTCPv1  Kind = 2 // TCP frame v1: its 16-byte nonce
	KindTCPv2  Kind = 3 // TCP envelope v2: its 24-byte prefix
	KindSYN    Kind = 4 // a SYN knock: port, slot and fields
	KindSYNSeq Kind = 5 // a completed SYN sequence: port, slot and the last part's fields
	KindUDPv2  Kind = 6 // a udp-v2 knock: the datagram's 24-byte nonce
)

// Claim is a request to a Store for one replay key.
type Claim struct {
	Kind     Kind
	Client   string        // the client's ID, against whose limit the key counts
	Nonce    []byte        // borrowed until Store.Claim returns
	Lifetime time.Duration // how long the message can be fresh; at most MaxLifetime

	// Err is the result. nil: the key was free and is now claimed. ErrReplayed:
	// it was claimed before. ErrFull, ErrInvalidClaim, ErrClosed: refused. Any
	// other error is ErrUnrecorded and a refusal as well: a key that could not
	// be written would be lost by a restart. Only ErrReplayed is evidence
	// against the sender.
	Err error
}

// Store remembers which messages were accepted. It is safe for concurrent use.
type Store interface {
	// Claim sets the Err of every claim of the batch, in order: of two equal
	// claims in one batch the second is a replay. A key is checked and marked
	// in one step. A key refused with an I/O error stays marked, so that a copy
	// of the message cannot succeed where the message failed; claimed again, it
	// is ErrUnrecorded, since it was never accepted. An empty batch only
	// expires keys.
	Claim(batch []Claim)
	// Close releases the store's resources. Later claims fail with ErrClosed.
	Close() error
}

// Usage is how much of a limited resource is used. For a limit per client, Used
// is the highest usage of any client.
type Usage struct {
	Resource    string // a metric label
	Used, Limit int
}

// Errors of a Store.
var (
	ErrReplayed     = errors.New("message was already used")
	ErrFull         = errors.New("replay store is full, or its share for this client")
	ErrInvalidClaim = errors.New("claim without kind, nonce or a lifetime within bounds")
	ErrClosed       = errors.New("replay store is closed")
	// ErrUnrecorded means that the key could not be written: the disk is full,
	// gone or read-only.
	ErrUnrecorded = errors.New("replay store could not record the message")
)

const (
	// DefaultMaxKeys is how many keys that may still be replayed a store holds.
	// With the usual lifetime of 61 s that is 17,000 messages per second. A
	// live key takes about 100 bytes of memory (48 in a heap, 20 to 40 in the
	// map, the rest is spare capacity), so a full store takes about 100 MB; an
	// idle one takes none.
	DefaultMaxKeys = 1 << 20

	// perClientShare is the default of MaxPerClient as a fraction of MaxKeys: a
	// quarter, 262,144 keys or 4,200 messages per second, more connections than
	// one client was measured to open.
	perClientShare = 4

	// MaxLifetime is the maximum lifetime of a key. The longest that
	// configurations lead to is three slots of 5 minutes; a day is far above
	// that and far below any overflow.
	MaxLifetime = 24 * time.Hour
)

// Options configure both kinds of store. The zero value is valid.
type Options struct {
	// Now is the wall clock, which dates messages; time.Now if nil.
	Now func() time.Time
	// Mono is a monotonic clock with any origin; the time since the store was
	// made if nil.
	Mono func() time.Duration
	// MaxKeys limits the keys that may still be replayed; DefaultMaxKeys if 0.
	MaxKeys int
	// MaxPerClient limits the keys of one client; a quarter of MaxKeys if 0. In
	// addition, no client may have more keys than are free, so n greedy clients
	// leave one part in n+1 to the others, and a single client fills at most
	// half a store.
	MaxPerClient int
	// Logger receives reports of damaged files and of failures to rotate them;
	// nil discards them.
	Logger *slog.Logger

	// open opens a segment for writing at offsets; tests replace it by a faulty
	// one.
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

// MemoryStore is a Store in memory: after a restart, a message that was captured
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

// Usage returns the usage of the store.
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

// instant is a reading of both clocks.
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
