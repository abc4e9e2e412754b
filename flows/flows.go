// Package flows makes two connections of a request and joins them until both
// have ended.
//
// The order of dialling and answering is the heart of it. Where knowing how to
// knock is all that is asked, the upstream is dialled before the client's
// handshake is completed, so that a port behind the gate looks to its clients
// as it would without one: open, refused, or silent. Where the client is to
// authenticate, the handshake must come first, and dialling for strangers
// would let them reach the upstream, so that comes last:
//
//	DialFirst:     dial upstream -> complete handshake ---------------------> relay
//	               refused: reset   timeout: silence
//	Authenticate:  complete handshake -> authenticate -> dial upstream -----> relay
//	                                     failed: reset   refused: reset
//	                                     at deadline     timeout: silence
//
// The package knows neither the stack nor the gate: a Request and a Plan are
// all that it is told.
package flows

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
)

// A Conn is a stream with the ends that a relay needs.
type Conn interface {
	net.Conn
	// CloseWrite sends a FIN; the other direction goes on.
	CloseWrite() error
	// Abort ends both directions with a reset.
	Abort()
}

// A Request is a client's connection that begins. Refuse and Ignore may be
// called while Accept waits for the client, and have it give up, unless it
// succeeds at that moment.
type Request interface {
	Accept() (Conn, error) // completes the handshake
	Reset()                // answers with a reset
	Drop()                 // answers nothing
}

// A Plan is what to do with one request. Functions may be nil where noted.
type Plan struct {
	Key      Key
	Service  string
	Upstream string // for the log, and for who lists the flows

	DialFirst   bool
	DialTimeout time.Duration
	// Share says with which flows this one shares upstream connections until
	// its handshake is complete, and how many there may be at a time. Nil where
	// it has one of its own.
	Share func() (key ShareKey, limit int)
	Idle  time.Duration // a flow without a byte in either direction for so long ends; 0: never
	// InFlight returns how many bytes the client has not acknowledged of what
	// was sent to it. Optional.
	InFlight func() int

	// Admitted reports whether the flow may begin still. It is asked once Kill
	// can end the flow, which may have come before that. Optional.
	Admitted func() bool
	// HandshakeDone is told that the handshake is done and may object.
	HandshakeDone func() error
	// Authenticate says who the client is. It returns by its own deadline,
	// whatever the client does, and its error ends the flow with a reset. Nil
	// where Client is known without.
	Authenticate func(ctx context.Context, conn net.Conn) (client string, err error)
	// Client says who the client is without authentication; asked after Complete.
	Client func() string
	// Dial reaches the upstream. Nil where Serve takes the connection instead.
	Dial  func(ctx context.Context) (net.Conn, error)
	Serve func(ctx context.Context, conn net.Conn, client string) error

	// OnDrop is called before the client's connection is aborted unheard.
	OnDrop func()
	// OnClose is called when the connections are done with: nothing more is
	// written, though what was written may still be on its way.
	OnClose func()
	// OnEnd is called last, when the Set has forgotten the flow. Optional.
	OnEnd func(f *Flow, end CloseReason)
}

// A Key names a flow: who dialled, and what.
type Key struct{ Client, Target netip.AddrPort }

// A Flow is one request on its way. Its counters may be read at any time.
type Flow struct {
	Key      Key
	Service  string
	Upstream string // as in the Plan
	Started  time.Time

	client    atomic.Pointer[string]
	up, down  atomic.Uint64
	active    atomic.Int64 // when a byte last moved, in ns since Started
	cancel    context.CancelCauseFunc
	idleTimer idleTimer
	prev      *Flow // of the same Key, ending or forgotten by its client; under Set.mu
}

// Client returns who it is, "" until that is known.
func (f *Flow) Client() string {
	if c := f.client.Load(); c != nil {
		return *c
	}
	return ""
}

// Bytes returns what was relayed from the client, and to it.
func (f *Flow) Bytes() (up, down uint64) { return f.up.Load(), f.down.Load() }

// Idle returns how long no byte has moved in either direction.
func (f *Flow) Idle() time.Duration {
	return time.Since(f.Started) - time.Duration(f.active.Load())
}

// touch notes that a byte moves now.
func (f *Flow) touch() { f.active.Store(int64(time.Since(f.Started))) }

// Why a flow ended.
var (
	errKilled  = errors.New("killed")
	errDrained = errors.New("drain timed out")
	errIdle    = errors.New("idle")
)

// Totals count since the Set was made.
type Totals struct {
	Flows    uint64 // relayed, or handed to the embedding program
	Up, Down uint64 // bytes from and to clients
	Closed   [NumCloseReasons]uint64
}

// Table is the flows of a gateway. The zero value is not ready; use NewSet.
type Table struct {
	log          *slog.Logger
	dialWarnings loglimit.Limiter // about upstreams that do not answer
	buffers      sync.Pool

	mu sync.Mutex
	// The newest flow of each key. A client may use a tuple again before the
	// flow that had it is done: at the end of the relay, or for as long as an
	// embedding program has not noticed that its connection is dead.
	flows   map[Key]*Flow
	n       int // flows, the older ones of a key included
	totals  Totals
	empty   chan struct{} // closed while there are no flows
	drained bool          // no more flows are taken

	poolsMu sync.Mutex // guards shares and what is in them; never held across I/O
	pools   map[ShareKey]*upstreamPool
}

// NewTable makes an empty set.
func NewTable(log *slog.Logger) *Table {
	empty := make(chan struct{})
	close(empty)
	s := &Table{log: log, flows: make(map[Key]*Flow), empty: empty, pools: make(map[ShareKey]*upstreamPool)}
	s.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	return s
}

// Serve brings a request to its end and returns then. What it and its callees
// keep on the stack, an idle flow keeps: a stack of which less than 2 KiB is used
// shrinks to 4 when garbage is collected.
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

// finish tells of the end of a flow.
func (s *Table) finish(f *Flow, p *Plan, end CloseReason) {
	if p.OnEnd != nil {
		p.OnEnd(f, end)
	}
	if !s.log.Enabled(context.Background(), slog.LevelDebug) {
		return // before any of the arguments is made
	}
	up, down := f.Bytes()
	s.log.Debug("flow ended", "service", p.Service, "client", f.Client(), "from", p.Key.Client,
		"why", end.String(), "up", up, "down", down, "for", time.Since(f.Started))
}

// add reports whether the set takes f.
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

// Kill ends the flows of that key at once, and reports whether there were any.
// Whoever wants that to be silent has closed the gate for them before.
func (s *Table) Kill(k Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.flows[k]
	for f := newest; f != nil; f = f.prev {
		f.cancel(errKilled)
	}
	return newest != nil
}

// Drain waits until there are no flows, or until ctx ends; then it resets those
// that are left and waits for them. It reports how many those were. From when
// it stops waiting, requests are refused: none begins behind its back.
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
		case <-empty: // unless another has begun meanwhile
		case <-ctx.Done():
			return s.reset()
		}
	}
}

// reset ends all flows, waits for them, and reports how many there were.
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

// All returns the flows that there are, in no order. It is a copy of the list:
// the set goes on.
func (s *Table) All() []*Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Flow, 0, s.n)
	for f := range s.all {
		list = append(list, f)
	}
	return list
}

// Len returns how many flows there are.
func (s *Table) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Totals returns the counts, bytes of running flows included.
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

// countStarted counts a flow whose client is let in.
func (s *Table) countStarted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.Flows++
}
