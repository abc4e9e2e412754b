package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// A place is what the gate keeps of a service, whatever policy is in force. Flows
// and grants refer to it rather than to the service, so that a change of policy
// touches the places alone, and none of the flows of what did not change.
type place struct {
	service   *policy.Service // by the policy in force; where the place is gone, the last
	gone      bool            // no policy has it any more
	pending   unproven        // flows of an open service
	flooded   bool            // some of those were evicted
	floodedAt time.Duration
}

// standing returns the key and the service of a knock that was found in the table
// of an earlier policy, or of this one; nil if this policy has not got them.
func standing(p *policy.Policy, h *hit) (*policy.ClientKey, *policy.Service) {
	svc := h.service
	if p.Has(svc) {
		return h.expectation.Key, svc // where it is forbidden as well
	}
	// It was at this address and port, and is found there if it is the same.
	s := p.Find(packet.AddrFrom(svc.Listen.Addr()), svc.Port, svc.SameEndpoint)
	if s == nil || h.forbidden || !s.Accepts(h.expectation, h.kind.family()) {
		return nil, nil
	}
	return s.KeyOf(h.expectation.Key.Identity), s
}
