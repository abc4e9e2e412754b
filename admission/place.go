package admission

import (
	"slices"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// A place is what the gate keeps of a service, whatever policy is in force. Flows
// and grants refer to it rather than to the service, so that a change of policy
// touches the places alone, and none of the flows of what did not change.
type place struct {
	service   *Service // by the policy in force; where the place is gone, the last
	gone      bool     // no policy has it any more
	pending   unproven // flows of an open service
	flooded   bool     // some of those were evicted
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
	for _, k := range s.keysOf(id.ID()) {
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
		return h.expectation.key, svc // where it is forbidden as well
	}
	// It was at this address and port, and is found there if it is the same.
	s := p.tcp.find(packet.AddrFrom(svc.Listen.Addr()), svc.Port, svc.sameDoor)
	if s == nil || h.forbidden || !s.takes(h.expectation, h.kind.family()) {
		return nil, nil
	}
	return s.key(h.expectation.key.id), s
}

// identities are those of the keys of p, by client id.
func (p *Policy) identities() identities {
	if p == nil {
		return nil
	}
	all := make(identities)
	for client, h := range p.holders {
		for _, k := range h.keys {
			if !slices.Contains(all[client.ID], k.id) {
				all[client.ID] = append(all[client.ID], k.id)
			}
		}
	}
	return all
}
