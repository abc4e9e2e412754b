package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/knock"
)

const (
	// maxSessions is the maximum number of concurrent traces and captures: each
	// receives every packet.
	maxSessions = 8
	// traceQueue is how many events of a trace may wait for their reader.
	traceQueue = 1024
)

var errTooManySessions = fmt.Errorf("%d traces and captures are in progress: end one", maxSessions)

// Sessions delivers events to the traces and captures in progress. Without any,
// the cost is one atomic load per packet. A session copies events into a
// bounded queue and never makes a packet wait. The kernel's filter passes the
// packets that a session wants, so that it sees them.
type Sessions struct {
	filter atomic.Pointer[filter.Filter] // nil if the gateway has none
	all    atomic.Pointer[[]*session]    // nil for none; replaced, never modified

	mu       sync.Mutex // held to replace all and to update the filter
	sources  map[netip.Addr]int
	everyone int // sessions that want the packets of all sources
}

// A session is a trace or a capture in progress.
type session struct {
	Sink
	// queued returns how many events wait for the reader, and how many may.
	queued func() (used, limit int)
}

// active reports whether there is any session.
func (s *Sessions) active() bool { return s.all.Load() != nil }

// each calls f with every session.
func (s *Sessions) each(f func(*session)) {
	if all := s.all.Load(); all != nil {
		for _, one := range *all {
			f(one)
		}
	}
}

// Knock implements Sink.
func (s *Sessions) Knock(e *knock.Event) { s.each(func(one *session) { one.Knock(e) }) }

// Auth implements Sink.
func (s *Sessions) Auth(e *AuthEvent) {
	if !e.canceled() {
		s.each(func(one *session) { one.Auth(e) })
	}
}

// Flow implements Sink.
func (s *Sessions) Flow(f *flows.Flow, reason flows.CloseReason) {
	s.each(func(one *session) { one.Flow(f, reason) })
}

// Ban implements Sink.
func (s *Sessions) Ban(e *admission.BanEvent) { s.each(func(one *session) { one.Ban(e) }) }

// Packet implements Sink.
func (s *Sessions) Packet(e *capture.Event) { s.each(func(one *session) { one.Packet(e) }) }

// subscribe adds a session for the packets of a source, or of all sources if
// from is not a single address, until the returned function is called.
func (s *Sessions) subscribe(one *session, from netip.Prefix) (unsubscribe func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*session
	if p := s.all.Load(); p != nil {
		all = *p
	}
	if len(all) >= maxSessions {
		return nil, errTooManySessions
	}
	all = append(slices.Clone(all), one)
	s.all.Store(&all)
	s.syncFilter(from, 1)

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		rest := slices.DeleteFunc(slices.Clone(*s.all.Load()), func(o *session) bool { return o == one })
		if s.all.Store(&rest); len(rest) == 0 {
			s.all.Store(nil)
		}
		s.syncFilter(from, -1)
	}, nil
}

// syncFilter tells the kernel's filter to pass what delta more sessions want.
// The caller holds s.mu.
func (s *Sessions) syncFilter(from netip.Prefix, delta int) {
	f := s.filter.Load()
	if f == nil {
		return
	}
	if !from.IsSingleIP() {
		s.everyone += delta
		f.BypassAll(s.everyone > 0)
		return
	}
	if s.sources == nil {
		s.sources = make(map[netip.Addr]int)
	}
	a := from.Addr()
	s.sources[a] += delta
	f.BypassSource(a, s.sources[a] > 0)
	if s.sources[a] == 0 {
		delete(s.sources, a)
	}
}

// usage returns the number of sessions, and the usage of the fullest queue.
func (s *Sessions) usage() (sessions, queued, limit int) {
	limit = traceQueue
	s.each(func(one *session) {
		sessions++
		if used, size := one.queued(); used*limit >= queued*size {
			queued, limit = used, size
		}
	})
	return sessions, queued, limit
}
