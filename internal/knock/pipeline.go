package knock

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// Options configures a Pipeline. All fields are required.
type Options struct {
	// Lock is the gate's. It guards the packet path's half: the table, the
	// limiter, known sources and SYN sequences.
	Lock   *sync.Mutex
	Policy func() *policy.Policy
	Store  replay.Store
	Now    func() time.Time     // wall clock
	Mono   func() time.Duration // monotonic clock
	Queue  int                  // knocks that may wait in each of the two queues

	// Pending marks a source as one whose knock is being decided, and reports
	// false where it has too many already. The lock is held.
	Pending func(src packet.Addr) bool
	// Done receives each knock that was decided, from the worker. It counts the
	// source's pending knock as done. d is borrowed for the call.
	Done func(d *Decision)
}

// A Pipeline takes the knocks for one gate.
type Pipeline struct {
	Limiter *Limiter     // guarded by the lock
	Known   KnownSources // guarded by the lock

	mu          *sync.Mutex
	policy      func() *policy.Policy
	store       replay.Store
	now         func() time.Time
	mono        func() time.Duration
	markPending func(src packet.Addr) bool
	done        func(*Decision)

	queues    *queues
	table     *Table
	sequences synSequences
	scratch   *protocol.Scratch // guarded by the lock

	computed, trials atomic.Uint64 // HMACs ahead, and to find the clients of v1 knocks
	worker           workerUsage
}

// New makes a pipeline. The caller builds the first table, with NewBuilder, and
// sets it.
func New(o Options) *Pipeline {
	return &Pipeline{
		Limiter: newLimiter(), Known: newKnownSources(),
		mu: o.Lock, policy: o.Policy, store: o.Store, now: o.Now, mono: o.Mono,
		markPending: o.Pending, done: o.Done,
		queues: newQueues(o.Queue), sequences: newSYNSequences(), scratch: protocol.NewScratch(),
	}
}

// Sweep forgets what has expired of the packet path's half, up to batch entries
// of each table.
func (p *Pipeline) Sweep(batch int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.mono()
	p.sequences.sweep(batch, now)
	p.Known.Sweep(batch, now)
}
