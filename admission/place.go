package admission

import (
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// A place is what the gate keeps of a service, whatever policy is in force. Flows
// and grants refer to it rather than to the service, so that a change of policy
// touches the places alone, and none of the flows of what did not change.
type place struct {
	service   *Service // by the policy in force; where the place is gone, the last
	gone      bool     // no policy has it any more
	halfOpen  queue    // unauthenticated flows of an open service, oldest first
	flooded   bool     // that has overflowed
	floodedAt time.Duration
}

// sameDoor tells whether clients find o where they find s: then it is the same
// service with other properties.
func (s *Service) sameDoor(o *Service) bool {
	return s.Name == o.Name && s.Port == o.Port && s.Listen == o.Listen
}

// holder returns the client of the service whose key id is; nil if it is nobody's.
func (s *Service) holder(id *protocol.Client) *Client {
	if k := s.key(id); k != nil {
		return k.client
	}
	return nil
}

// key returns the key of a client of the service that equals id, nil if there is none.
func (s *Service) key(id *protocol.Client) *key {
	for _, k := range s.keysOf[id.ID()] {
		if k.id == id || k.id.Equal(id) {
			return k
		}
	}
	return nil
}

// standing returns the key and the service of a knock that was found in the table
// of an earlier policy, or of this one; nil if this policy has not got them.
func (p *Policy) standing(h *hit) (*key, *Service) {
	svc := h.service
	if svc.at < len(p.services) && p.services[svc.at] == svc {
		return h.expectation.key, svc
	}
	for _, s := range p.services {
		if s.sameDoor(svc) && s.takes(h.expectation, h.kind.family()) {
			return s.key(h.expectation.key.id), s
		}
	}
	return nil, nil
}

// identities are those of a policy's keys, by client id.
type identities map[string][]*protocol.Client

func (p *Policy) identities() identities {
	if p == nil {
		return nil
	}
	all := make(identities)
	for _, s := range p.services {
		for id, keys := range s.keysOf {
			if _, ok := all[id]; ok {
				continue // the keys of a client are the same for all services
			}
			for _, k := range keys {
				all[id] = append(all[id], k.id)
			}
		}
	}
	return all
}

// of returns the identity that equals id, which may be id itself.
func (all identities) of(id *protocol.Client) *protocol.Client {
	for _, known := range all[id.ID()] {
		if known.Equal(id) {
			return known
		}
	}
	return id
}
