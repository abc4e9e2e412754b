package admission

import (
	"github.com/knockgw/knockgw/internal/policy"
)

// How one policy replaces another under running traffic:
//
//	before      states for new services; services that only differ in their
//	            properties keep theirs; the table of precomputed knocks
//	lock held   the new policy, its services and its table are put in force: a
//	            store for each service, none for a client, a flow or a grant
//	afterwards  grants and flows that have lost their service, their client or
//	            their secret are searched for, a batch at a time, and ended
//
// Budgets, bans, sequences in progress and known sources are kept by address,
// client id and identity, which outlive policies. Until a revoked flow is found
// its packets may still pass; no new flow is admitted.

// Revocation counts what a change of policy has ended.
type Revocation struct{ Grants, Flows int }

// SetPolicy puts p in force, and returns when everything that it revokes has
// been ended: the flows and grants of services that are gone, or at another
// address; of clients' keys that are gone, or that may not use the service any
// more; and the handshakes under way, not the authorized flows, of services
// that have other requirements now. Nothing more of what is ended leaves.
//
// p should have been built After the gate's Policy. An Offload that drops
// packets must let all of them pass until SetPolicy returns.
func (g *Gate) SetPolicy(p *policy.Policy) Revocation {
	g.rebuildMu.Lock()
	defer g.rebuildMu.Unlock()
	t := g.knocks.NewBuilder().Build(p, g.now(), nil)
	next := stagePolicy(p, g.servicesByName)
	g.offload.Expect(t.Len(), t.Fields()) // before a knock can come that only the new policy takes

	g.mu.Lock()
	g.commit(next)
	g.knocks.SetTable(t)
	g.mu.Unlock()
	// Whatever is admitted from now on, p allows: so it does not matter that the
	// walk through a map that changes may miss it.
	return g.revokeMatching(
		func(gr *grant) bool { return !gr.permitted() },
		func(f *flow) bool { return !f.permitted() },
	)
}

// SetLimits replaces the limits of clients and of sources, and the ban. Fields
// of l that are zero, and the sizes of tables, stay as they are.
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
	g.bans.setPolicy(b)
}

// policyUpdate is a policy with the states of its services.
type policyUpdate struct {
	policy   *policy.Policy
	services []*serviceState
	byName   map[string]*serviceState
	gone     []*serviceState // that the policy does not have
}

// stagePolicy finds and creates the states for p; current are those in use. The
// caller holds rebuildMu, so that nothing else changes them.
func stagePolicy(p *policy.Policy, current map[string]*serviceState) policyUpdate {
	u := policyUpdate{policy: p, byName: make(map[string]*serviceState, len(p.Services()))}
	for _, s := range p.Services() {
		at := current[s.Name]
		if at == nil || !at.service.SameEndpoint(s) {
			at = &serviceState{service: s}
		}
		u.services = append(u.services, at)
		u.byName[s.Name] = at
	}
	for name, at := range current {
		if u.byName[name] != at {
			u.gone = append(u.gone, at)
		}
	}
	return u
}

// commit puts a policy in force. The caller holds rebuildMu and mu.
func (g *Gate) commit(u policyUpdate) {
	for i, s := range u.policy.Services() {
		u.services[i].service = s
	}
	for _, at := range u.gone {
		at.gone = true
	}
	g.services, g.servicesByName = u.services, u.byName
	g.policy.Store(u.policy)
}

// permitted reports whether the policy in force allows the grant.
func (gr *grant) permitted() bool {
	return !gr.service.gone && gr.service.service.ClientOf(gr.key) != nil
}

// permitted reports whether the policy in force allows the flow.
func (f *flow) permitted() bool {
	switch {
	case f.service.gone:
		return false
	case f.key != nil:
		return f.service.service.ClientOf(f.key) != nil
	case f.state >= stateAuthorized:
		return true // it ended before it was authorized
	case f.grant != nil && f.grant.revoked && f.source.queued == 0 && !f.source.hasGrant(f.service):
		return false
	default:
		return f.unchanged()
	}
}

// unchanged reports whether the flow's service has the requirements that it had
// when the SYN came. Only an authorized flow may outlive a change of them.
func (f *flow) unchanged() bool {
	return !f.service.gone && f.mode == f.service.service.Mode && f.open == f.service.service.Open()
}
