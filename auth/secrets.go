package auth

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/knockgw/knockgw/protocol"
)

// Secrets is a set of clients in memory that can be changed while it is used: the one place for the
// secrets of every Server and guard of a program. Reading it takes no lock, and whoever has begun to
// read sees the clients of that moment. The zero value is an empty set. It is safe for concurrent use
// and must not be copied.
//
// A change costs a copy of the set, so fill it with Replace. What is removed opens nothing from then
// on; a Server does not end the connections that it has opened before.
type Secrets struct {
	mu  sync.Mutex // held by whoever makes the next snapshot
	cur atomic.Pointer[snapshot]
}

// snapshot is the set as it was at a time. Nothing in it changes, but that changed is closed once.
type snapshot struct {
	keys    map[string][]*protocol.Client // by id
	all     []*protocol.Client            // in the order of the ids
	changed chan struct{}                 // closed when another snapshot takes its place
}

// NewSecrets returns a set of clients.
func NewSecrets(clients ...*protocol.Client) *Secrets {
	s := new(Secrets)
	s.Replace(clients...)
	return s
}

// Set makes c the one secret of its id, in place of all that it had.
func (s *Secrets) Set(c *protocol.Client) {
	s.change(func(keys map[string][]*protocol.Client) { keys[c.ID()] = []*protocol.Client{c} })
}

// Add makes c one more secret of its id: both are good while the client changes from one to the other.
func (s *Secrets) Add(c *protocol.Client) {
	s.change(func(keys map[string][]*protocol.Client) {
		keys[c.ID()] = append(slices.Clip(keys[c.ID()]), c)
	})
}

// Remove takes a client with all its secrets out, and tells whether it was there.
func (s *Secrets) Remove(id string) bool {
	found := false
	s.change(func(keys map[string][]*protocol.Client) {
		_, found = keys[id]
		delete(keys, id)
	})
	return found
}

// Replace makes clients the whole set at once. Several of one id are several secrets of it.
func (s *Secrets) Replace(clients ...*protocol.Client) {
	s.change(func(keys map[string][]*protocol.Client) {
		clear(keys)
		for _, c := range clients {
			keys[c.ID()] = append(keys[c.ID()], c)
		}
	})
}

// All are the secrets' clients, for Server.Clients. Each time it is ranged over it is the set of that
// moment.
func (s *Secrets) All() iter.Seq[*protocol.Client] {
	return func(yield func(*protocol.Client) bool) {
		for _, c := range s.load().all {
			if !yield(c) {
				return
			}
		}
	}
}

// Of are the secrets of a client; nil if it is not in the set. The caller must not change the slice.
func (s *Secrets) Of(id string) []*protocol.Client { return s.load().keys[id] }

// Len is how many secrets there are.
func (s *Secrets) Len() int { return len(s.load().all) }

// Changed returns a channel that is closed at the next change. Ask for it before reading the set, and
// no change goes unseen.
func (s *Secrets) Changed() <-chan struct{} { return s.load().changed }

// load returns the set as it is now.
func (s *Secrets) load() *snapshot {
	if now := s.cur.Load(); now != nil {
		return now
	}
	s.cur.CompareAndSwap(nil, &snapshot{changed: make(chan struct{})})
	return s.cur.Load()
}

// change makes the next snapshot out of a copy of the last.
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
