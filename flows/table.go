package flows

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
)

// Totals are counters since NewTable.
type Totals struct {
	Flows    uint64 // relayed, or served by the embedding program
	Up, Down uint64 // bytes from and to clients
	Closed   [NumCloseReasons]uint64
}

// A Table contains the flows of a gateway. Use NewTable.
type Table struct {
	log          *slog.Logger
	dialWarnings loglimit.Limiter // about upstreams that do not answer
	buffers      sync.Pool

	mu sync.Mutex
	// flows has the newest flow of each key. A client may reuse a tuple before
	// its earlier flow has ended: at the end of the relay, or while an
	// embedding program has not noticed that its connection is dead.
	flows   map[Key]*Flow
	n       int // number of flows, including the older ones of a key
	totals  Totals
	empty   chan struct{} // closed while there are no flows
	drained bool          // no more flows are accepted

	poolsMu sync.Mutex // guards pools and their contents; never held across I/O
	pools   map[ShareKey]*upstreamPool
}

// NewTable returns an empty Table.
func NewTable(log *slog.Logger) *Table {
	empty := make(chan struct{})
	close(empty)
	t := &Table{log: log, flows: make(map[Key]*Flow), empty: empty, pools: make(map[ShareKey]*upstreamPool)}
	t.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	return t
}

// Serve serves a request and returns when its flow has ended. The goroutine's
// stack is most of the memory of an idle flow: a stack with less than 2 KiB in
// use shrinks to 4 KiB at the next garbage collection.
func (t *Table) Serve(ctx context.Context, r Request, p *Plan) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &Flow{Key: p.Key, Service: p.Service, Upstream: p.Upstream, Started: time.Now(), cancel: cancel}
	if !t.add(f) {
		r.Reset()
		p.OnDrop()
		return
	}

	end := CloseKilled
	if p.Admitted == nil || p.Admitted() {
		end = t.serve(ctx, f, r, p)
	} else {
		r.Drop()
	}
	t.remove(f, end)
	t.finish(f, p, end)
}

// finish reports the end of a flow.
func (t *Table) finish(f *Flow, p *Plan, end CloseReason) {
	if p.OnEnd != nil {
		p.OnEnd(f, end)
	}
	if !t.log.Enabled(context.Background(), slog.LevelDebug) {
		return // before evaluating the arguments
	}
	up, down := f.Bytes()
	t.log.Debug("flow ended", "service", p.Service, "client", f.Client(), "from", p.Key.Client,
		"why", end.String(), "up", up, "down", down, "for", time.Since(f.Started))
}

// add reports whether the table accepts f.
func (t *Table) add(f *Flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.drained {
		t.totals.Closed[CloseDrained]++
		return false
	}
	if t.n == 0 {
		t.empty = make(chan struct{})
	}
	t.n++
	f.prev = t.flows[f.Key]
	t.flows[f.Key] = f
	return true
}

func (t *Table) remove(f *Flow, end CloseReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	up, down := f.Bytes()
	t.totals.Up += up
	t.totals.Down += down
	t.totals.Closed[end]++
	switch newest := t.flows[f.Key]; {
	case newest != f:
		for newest.prev != f {
			newest = newest.prev
		}
		newest.prev = f.prev
	case f.prev != nil:
		t.flows[f.Key] = f.prev
	default:
		delete(t.flows, f.Key)
	}
	if t.n--; t.n == 0 {
		close(t.empty)
	}
}

// all yields every flow. The caller holds t.mu.
func (t *Table) all(yield func(*Flow) bool) {
	for _, f := range t.flows {
		for ; f != nil; f = f.prev {
			if !yield(f) {
				return
			}
		}
	}
}

// Kill ends the flows of a key at once, and reports whether there were any. For
// a silent end the caller has to close the gate for them first.
func (t *Table) Kill(k Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	newest := t.flows[k]
	for f := newest; f != nil; f = f.prev {
		f.cancel(errKilled)
	}
	return newest != nil
}

// Drain waits until there are no flows, or until ctx ends; then it resets the
// remaining ones and waits for them. It returns their number. Once it stops
// waiting, new requests are reset.
func (t *Table) Drain(ctx context.Context) (left int) {
	for {
		t.mu.Lock()
		if t.n == 0 {
			t.drained = true
			t.mu.Unlock()
			return 0
		}
		empty := t.empty
		t.mu.Unlock()
		select {
		case <-empty: // unless another flow has begun since
		case <-ctx.Done():
			return t.reset()
		}
	}
}

// reset ends all flows, waits for them, and returns their number.
func (t *Table) reset() int {
	t.mu.Lock()
	t.drained = true
	n, empty := t.n, t.empty
	for f := range t.all {
		f.cancel(errDrained)
	}
	t.mu.Unlock()
	<-empty
	return n
}

// All returns the current flows, in no particular order.
func (t *Table) All() []*Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*Flow, 0, t.n)
	for f := range t.all {
		list = append(list, f)
	}
	return list
}

// Len returns the number of flows.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// Totals returns the counters, including the bytes of running flows.
func (t *Table) Totals() Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	totals := t.totals
	for f := range t.all {
		up, down := f.Bytes()
		totals.Up += up
		totals.Down += down
	}
	return totals
}

// countStarted counts a flow whose client was admitted.
func (t *Table) countStarted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.totals.Flows++
}
