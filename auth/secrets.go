package auth

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/knockgw/knockgw/protocol"
)

// Secrets is a set of clients in memory that can change while it is used. All
// Servers and guards of a program can share one. Readers take no lock and see
// the set as it was when they started. The zero value is an empty set. It is
// safe for concurrent use and must not be copied.
//
// A change copies the set, so fill it with Replace. A removed secret opens
// nothing from then on; a Server does not close connections that it has
// authenticated before.
type Secrets struct {
	mu  sync.Mutex // held while the next snapshot is made
	cur atomic.Pointer[snapshot]
}

// snapshot is the set at some time. It is immutable, except that changed is
// closed.
type snapshot struct {
	keys    map[string][]*protocol.Client // by id
	all     []*protocol.Client            // in the order of the ids
	changed chan struct{}                 // closed when another snapshot replaces it
}

// NewSecrets returns a set of clients.
func NewSecrets(clients ...*protocol.Client) *Secrets {
	s := new(Secrets)
	s.Replace(clients...)
	return s
}

// Set makes c the only secret of its ID.
func (s *Secrets) Set(c *protocol.Client) {
	s.change(func(keys map[string][]*protocol.Client) { keys[c.ID()] = []*protocol.Client{c} })
}

// Add adds a secret to those of its ID: both are valid while the client changes
// from one to the other.
func (s *Secrets) Add(c *protocol.Client) {
	s.change(func(keys map[string][]*protocol.Client) {
		keys[c.ID()] = append(slices.Clip(keys[c.ID()]), c)
	})
}

// Remove removes a client with all its secrets. It reports whether it was there.
func (s *Secrets) Remove(id string) bool {
	found := false
	s.change(func(keys map[string][]*protocol.Client) {
		_, found = keys[id]
		delete(keys, id)
	})
	return found
}

// Replace replaces the whole set at once. Several clients with one ID are
// several secrets of it.
func (s *Secrets) Replace(clients ...*protocol.Client) {
	s.change(func(keys map[string][]*protocol.Client) {
		clear(keys)
		for _, c := range clients {
			keys[c.ID()] = append(keys[c.ID()], c)
		}
	})
}

// All iterates over the clients, for Server.Clients. Each iteration sees the
// set as it is when the iteration starts.
func (s *Secrets) All() iter.Seq[*protocol.Client] {
	return func(yield func(*protocol.Client) bool) {
		for _, c := range s.load().all {
			if !yield(c) {
				return
			}
		}
	}
}

// Of returns the secrets of a client; nil if it is not in the set. The caller
// must not modify the slice.
func (s *Secrets) Of(id string) []*protocol.Client { return s.load().keys[id] }

// Len returns the number of secrets.
func (s *Secrets) Len() int { return len(s.load().all) }

// Changed returns a channel that is closed by the next change. Call it before
// reading the set, so that no change is missed.
func (s *Secrets) Changed() <-chan struct{} { return s.load().changed }

// load returns the current set.
func (s *Secrets) load() *snapshot {
	if now := s.cur.Load(); now != nil {
		return now
	}
	s.cur.CompareAndSwap(nil, &snapshot{changed: make(chan struct{})})
	return s.cur.Load()
}

// change makes the next snapshot from a copy of the last.
func (s *Secrets) change(f func(keys map[string][]*protocol.Client)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.load()
	next := &snapshot{keys: make(map[string][]*protocol.Client, len(old.keys)+1), changed: make(chan struct{})}
	maps.Copy(next.keys, old.keys)
	f(next.keys)
	for _, id := range slices.Sorted(maps.Keys(next.keys)) {
		next.all = append(next.all, next.keys[id]...)
	}
	s.cur.Store(next)
	close(old.changed)
}
