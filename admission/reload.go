package admission

import (
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/ratelimit"
	"github.com/knockgw/knockgw/packet"
)

// How one policy takes the place of another under running traffic:
//
//	beside      places for the new services, those of the old ones where nothing
//	            but their properties has changed; the table of expected knocks
//	lock held   the new policy, its places and its table are put in force: a store
//	            for each service, none for a client, a flow or a grant
//	afterwards  grants and flows that have lost their service, their client or
//	            their secret are looked for, a batch at a time, and ended
//
// Budgets, bans, sequences under way and who knocked from where are kept by
// address, client id and identity, which outlive policies. In the moment before a
// revoked flow is found its packets may pass still; nothing new is let in.

// Revocation is what a change of policy has ended.
type Revocation struct{ Grants, Flows int }

// SetPolicy puts p in force, and returns when what it revokes has been ended: the
// flows and grants of services that are gone, or at another address; those of
// clients' keys that are gone, or that may not use the service any more; and the
// handshakes under way, not the flows that are let in, of services that ask for
// something else now. Of what is ended nothing more gets out.
//
// p should have been made After the gate's Policy. A Mirror that drops packets is to
// let all of them pass meanwhile.
func (g *Gate) SetPolicy(p *policy.Policy) Revocation {
	g.rebuildMu.Lock()
	defer g.rebuildMu.Unlock()
	t := g.knocks.NewBuilder().Build(p, g.now(), nil)
	next := g.stage(p)
	g.offload.Expect(t.Len(), t.Fields()) // before a knock can come that only the new policy takes
	g.mu.Lock()
	g.commit(next)
	g.knocks.SetTable(t)
	g.mu.Unlock()
	return g.revoke()
}

// SetLimits replaces the limits of clients and of sources, and the ban. Fields of l
// that are zero, and the sizes of tables, stay as they are.
func (g *Gate) SetLimits(l Limits, b Ban) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range []struct {
		field *int
		value int
	}{
		{&g.limits.GrantsPerSource, l.GrantsPerSource}, {&g.limits.GrantsPerClient, l.GrantsPerClient},
		{&g.limits.FlowsPerClient, l.FlowsPerClient}, {&g.limits.FlowsPerSource, l.FlowsPerSource},
	} {
		if d.value > 0 {
			*d.field = d.value
		}
	}
	g.ban = b
	g.bans.SetPolicy(ratelimit.BanPolicy(b))
}

// policyUpdate is a policy with the places of its services.
type policyUpdate struct {
	policy *policy.Policy
	places []*serviceState
	named  map[string]*serviceState
	gone   []*serviceState // that the policy has not got
}

// stage finds and makes the places for p. The caller holds g.rebuildMu, so that
// nobody else changes g.named and what the places are of.
func (g *Gate) stage(p *policy.Policy) policyUpdate {
	i := policyUpdate{policy: p, named: make(map[string]*serviceState, len(p.Services()))}
	for _, s := range p.Services() {
		at := g.servicesByName[s.Name]
		if at == nil || !at.service.SameEndpoint(s) {
			at = &serviceState{service: s}
		}
		i.places = append(i.places, at)
		i.named[s.Name] = at
	}
	for name, at := range g.servicesByName {
		if i.named[name] != at {
			i.gone = append(i.gone, at)
		}
	}
	return i
}

// commit puts a policy in force. The caller holds g.rebuildMu and g.mu.
func (g *Gate) commit(i policyUpdate) {
	for n, s := range i.policy.Services() {
		i.places[n].service = s
	}
	for _, at := range i.gone {
		at.gone = true
	}
	g.services, g.servicesByName = i.places, i.named
	g.policy.Store(i.policy)
}

// revoke ends the grants, and then the flows, that the policy in force does not
// allow. What is let in meanwhile, it allows: so it is no matter that the walk
// through a map that changes may miss that.
func (g *Gate) revoke() Revocation {
	return g.end(
		func(gr *grant) bool { return gr.service.gone || gr.service.service.ClientOf(gr.key) == nil },
		func(f *flow) bool { return !f.permitted() },
	)
}

func (g *Gate) notifyRevoked(flows []packet.Tuple) {
	for _, t := range flows {
		g.onRevoked(t)
	}
}

// unchanged tells whether the flow's service still asks what it asked when the SYN
// came. Only a flow that has been let in may outlive a change of that.
func (f *flow) unchanged() bool {
	return !f.service.gone && f.mode == f.service.service.Mode && f.open == f.service.service.Open()
}

// permitted tells whether the policy in force has room for the flow.
func (f *flow) permitted() bool {
	switch {
	case f.service.gone:
		return false
	case f.key != nil:
		return f.service.service.ClientOf(f.key) != nil
	case f.state >= stateAuthorized:
		return true // it has ended before it was anybody's
	case f.grant != nil && f.grant.revoked && f.source.queued == 0 && !f.source.hasGrant(f.service):
		return false
	default:
		return f.unchanged()
	}
}

// hasGrant tells whether the source has a grant for a service.
func (s *source) hasGrant(at *serviceState) bool {
	for _, gr := range s.grants {
		if gr.service == at {
			return true
		}
	}
	return false
}
