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
	s := &Table{log: log, flows: make(map[Key]*Flow), empty: empty, pools: make(map[ShareKey]*upstreamPool)}
	s.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	return s
}

// Serve serves a request and returns when its flow has ended. The goroutine's
// stack is most of the memory of an idle flow: a stack with less than 2 KiB in
// use shrinks to 4 KiB at the next garbage collection.
func (s *Table) Serve(ctx context.Context, r Request, p *Plan) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &Flow{Key: p.Key, Service: p.Service, Upstream: p.Upstream, Started: time.Now(), cancel: cancel}
	if !s.add(f) {
		r.Reset()
		p.OnDrop()
		return
	}

	end := CloseKilled
	if p.Admitted == nil || p.Admitted() {
		end = s.serve(ctx, f, r, p)
	} else {
		r.Drop()
	}
	s.remove(f, end)
	s.finish(f, p, end)
}

// finish reports the end of a flow.
func (s *Table) finish(f *Flow, p *Plan, end CloseReason) {
	if p.OnEnd != nil {
		p.OnEnd(f, end)
	}
	if !s.log.Enabled(context.Background(), slog.LevelDebug) {
		return // before evaluating the arguments
	}
	up, down := f.Bytes()
	s.log.Debug("flow ended", "service", p.Service, "client", f.Client(), "from", p.Key.Client,
		"why", end.String(), "up", up, "down", down, "for", time.Since(f.Started))
}

// add reports whether the table accepts f.
func (s *Table) add(f *Flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		s.totals.Closed[CloseDrained]++
		return false
	}
	if s.n == 0 {
		s.empty = make(chan struct{})
	}
	s.n++
	f.prev = s.flows[f.Key]
	s.flows[f.Key] = f
	return true
}

func (s *Table) remove(f *Flow, end CloseReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up, down := f.Bytes()
	s.totals.Up += up
	s.totals.Down += down
	s.totals.Closed[end]++
	switch newest := s.flows[f.Key]; {
	case newest != f:
		for newest.prev != f {
			newest = newest.prev
		}
		newest.prev = f.prev
	case f.prev != nil:
		s.flows[f.Key] = f.prev
	default:
		delete(s.flows, f.Key)
	}
	if s.n--; s.n == 0 {
		close(s.empty)
	}
}

// all yields every flow. The caller holds s.mu.
func (s *Table) all(yield func(*Flow) bool) {
	for _, f := range s.flows {
		for ; f != nil; f = f.prev {
			if !yield(f) {
				return
			}
		}
	}
}

// Kill ends the flows of a key at once, and reports whether there were any. For
// a silent end the caller has to close the gate for them first.
func (s *Table) Kill(k Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.flows[k]
	for f := newest; f != nil; f = f.prev {
		f.cancel(errKilled)
	}
	return newest != nil
}

// Drain waits until there are no flows, or until ctx ends; then it resets the
// remaining ones and waits for them. It returns their number. Once it stops
// waiting, new requests are reset.
func (s *Table) Drain(ctx context.Context) (left int) {
	for {
		s.mu.Lock()
		if s.n == 0 {
			s.drained = true
			s.mu.Unlock()
			return 0
		}
		empty := s.empty
		s.mu.Unlock()
		select {
		case <-empty: // unless another flow has begun since
		case <-ctx.Done():
			return s.reset()
		}
	}
}

// reset ends all flows, waits for them, and returns their number.
func (s *Table) reset() int {
	s.mu.Lock()
	s.drained = true
	n, empty := s.n, s.empty
	for f := range s.all {
		f.cancel(errDrained)
	}
	s.mu.Unlock()
	<-empty
	return n
}

// All returns the current flows, in no particular order.
func (s *Table) All() []*Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Flow, 0, s.n)
	for f := range s.all {
		list = append(list, f)
	}
	return list
}

// Len returns the number of flows.
func (s *Table) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Totals returns the counters, including the bytes of running flows.
func (s *Table) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.totals
	for f := range s.all {
		up, down := f.Bytes()
		t.Up += up
		t.Down += down
	}
	return t
}

// countStarted counts a flow whose client was admitted.
func (s *Table) countStarted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.Flows++
}
