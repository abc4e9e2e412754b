package policy

import (
	"slices"

	"github.com/knockgw/knockgw/protocol"
)

// A clientSet indexes the clients of a service. Services that were given the
// same slice of clients share one set, and a client's keys are the same in all
// of them: a policy takes memory for its clients and for its services, not for
// each pair of the two.
type clientSet struct {
	keys    []*ClientKey // the order of trying
	byID    map[string]*Holder
	maxKeys int // of one client
}

// Holder is a client with its keys.
type Holder struct {
	Client *Client
	Keys   []*ClientKey
}

// setKey identifies a slice of clients.
type setKey struct {
	first **Client
	n     int
}

// clientSets builds the sets of one policy.
type clientSets struct {
	shared  identities
	holders map[*Client]*Holder
	sets    map[setKey]*clientSet
}

func newClientSets(shared identities) *clientSets {
	return &clientSets{shared: shared, holders: make(map[*Client]*Holder), sets: make(map[setKey]*clientSet)}
}

// of returns the set of a slice of clients; nil if the slice is empty.
func (c *clientSets) of(clients []*Client) *clientSet {
	if len(clients) == 0 {
		return nil
	}
	at := setKey{&clients[0], len(clients)}
	if set := c.sets[at]; set != nil {
		return set
	}
	set := &clientSet{byID: make(map[string]*Holder, len(clients))}
	for _, client := range clients {
		h := c.holder(client)
		set.byID[client.ID] = h
		set.keys = append(set.keys, h.Keys...)
		set.maxKeys = max(set.maxKeys, len(h.Keys))
	}
	c.sets[at] = set
	return set
}

// holder returns a client with its keys.
func (c *clientSets) holder(client *Client) *Holder {
	h := c.holders[client]
	if h == nil {
		h = &Holder{Client: client}
		for _, k := range client.Keys {
			h.Keys = append(h.Keys, &ClientKey{client, c.shared.of(k.Identity), k.Until})
		}
		c.holders[client] = h
	}
	return h
}

// holderOf returns a client of the service by its id; nil if it may not use it.
func (s *Service) holderOf(id string) *Holder {
	for _, set := range s.sets {
		if h := set.byID[id]; h != nil {
			return h
		}
	}
	return nil
}

// Client returns a client of the service by its id; nil if it may not use it.
func (s *Service) Client(id string) *Client {
	if h := s.holderOf(id); h != nil {
		return h.Client
	}
	return nil
}

// KeysOf returns the keys of a client of the service, by its id.
func (s *Service) KeysOf(id string) []*ClientKey {
	if h := s.holderOf(id); h != nil {
		return h.Keys
	}
	return nil
}

// NumKeys is how many keys the clients of the service have, and the largest
// number that one of them has.
func (s *Service) NumKeys() (all, ofOne int) {
	for _, set := range s.sets {
		all += len(set.keys)
		ofOne = max(ofOne, set.maxKeys)
	}
	return all, ofOne
}

// EachKey calls f with the keys of all clients, until it returns false.
func (s *Service) EachKey(f func(*ClientKey) bool) {
	for _, set := range s.sets {
		for _, k := range set.keys {
			if !f(k) {
				return
			}
		}
	}
}

// identities are the identities of a policy's keys, by client id.
type identities map[string][]*protocol.Client

// of returns the known identity that equals id, or id itself.
func (all identities) of(id *protocol.Client) *protocol.Client {
	for _, known := range all[id.ID()] {
		if known.Equal(id) {
			return known
		}
	}
	return id
}

// identities returns the identities of the keys of p, by client id.
func (p *Policy) identities() identities {
	if p == nil {
		return nil
	}
	all := make(identities)
	for client, h := range p.holders {
		for _, k := range h.Keys {
			if !slices.Contains(all[client.ID], k.Identity) {
				all[client.ID] = append(all[client.ID], k.Identity)
			}
		}
	}
	return all
}
