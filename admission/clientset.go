package admission

import "github.com/knockgw/knockgw/protocol"

// A clientSet is who may use a service, ready to be looked up. Services that
// were given one slice of clients share one set, and a client's keys are the same
// in all of them: a policy takes memory for its clients and for its services,
// not for each pair of the two.
type clientSet struct {
	keys    []*key // the order of trying
	byID    map[string]*holder
	maxKeys int // that one client has
}

// holder is a client with its keys.
type holder struct {
	client *Client
	keys   []*key
}

// setKey names a slice of clients.
type setKey struct {
	first **Client
	n     int
}

// clientSets makes the sets of one policy.
type clientSets struct {
	shared  identities
	holders map[*Client]*holder
	sets    map[setKey]*clientSet
}

func newClientSets(shared identities) *clientSets {
	return &clientSets{shared: shared, holders: make(map[*Client]*holder), sets: make(map[setKey]*clientSet)}
}

// of returns the set of a slice of clients; nil if that is empty.
func (c *clientSets) of(clients []*Client) *clientSet {
	if len(clients) == 0 {
		return nil
	}
	at := setKey{&clients[0], len(clients)}
	if set := c.sets[at]; set != nil {
		return set
	}
	set := &clientSet{byID: make(map[string]*holder, len(clients))}
	for _, client := range clients {
		h := c.holder(client)
		set.byID[client.ID] = h
		set.keys = append(set.keys, h.keys...)
		set.maxKeys = max(set.maxKeys, len(h.keys))
	}
	c.sets[at] = set
	return set
}

func (c *clientSets) holder(client *Client) *holder {
	h := c.holders[client]
	if h == nil {
		h = &holder{client: client}
		for _, k := range client.Keys {
			h.keys = append(h.keys, &key{client, c.shared.of(k.Identity), k.Until})
		}
		c.holders[client] = h
	}
	return h
}

// holderOf returns a client of the service by its id; nil if it may not use it.
func (s *Service) holderOf(id string) *holder {
	for _, set := range s.sets {
		if h := set.byID[id]; h != nil {
			return h
		}
	}
	return nil
}

// client returns a client of the service by its id; nil if it may not use it.
func (s *Service) client(id string) *Client {
	if h := s.holderOf(id); h != nil {
		return h.client
	}
	return nil
}

// keysOf returns the keys of a client of the service, by its id.
func (s *Service) keysOf(id string) []*key {
	if h := s.holderOf(id); h != nil {
		return h.keys
	}
	return nil
}

// numKeys is how many keys the clients of the service have, and how many one of
// them has at most.
func (s *Service) numKeys() (all, ofOne int) {
	for _, set := range s.sets {
		all += len(set.keys)
		ofOne = max(ofOne, set.maxKeys)
	}
	return all, ofOne
}

// eachKey calls f with the keys of all clients, until it returns false.
func (s *Service) eachKey(f func(*key) bool) {
	for _, set := range s.sets {
		for _, k := range set.keys {
			if !f(k) {
				return
			}
		}
	}
}

// identities are those of a policy's keys, by client id.
type identities map[string][]*protocol.Client

// of returns the identity that equals id, which may be id itself.
func (all identities) of(id *protocol.Client) *protocol.Client {
	for _, known := range all[id.ID()] {
		if known.Equal(id) {
			return known
		}
	}
	return id
}
