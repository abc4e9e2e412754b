package admission

import (
	"net/netip"
	"runtime"

	"github.com/knockgw/knockgw/packet"
)

// A Target selects grants and flows: those that match every field that is set.
// The zero Target matches all.
type Target struct {
	Client  string
	Service string
	Source  netip.Prefix   // that they come from
	Flow    netip.AddrPort // the client's end of one connection; selects no grants
	// GrantsOnly leaves the flows alone.
	GrantsOnly bool
}

func (t *Target) grant(gr *grant) bool {
	return !t.Flow.IsValid() && (t.Client == "" || gr.key.ID() == t.Client) && t.at(gr.service, gr.source.addr)
}

func (t *Target) flow(f *flow) bool {
	if t.GrantsOnly || t.Client != "" && (f.key == nil || f.key.ID() != t.Client) {
		return false
	}
	if t.Flow.IsValid() && f.tuple.Source() != t.Flow {
		return false
	}
	return t.at(f.service, f.tuple.Src)
}

func (t *Target) at(at *serviceState, from packet.Addr) bool {
	return (t.Service == "" || at.service.Name == t.Service) && (!t.Source.IsValid() || t.Source.Contains(from.Netip()))
}

// Revoke ends grants and flows. Nothing more leaves of flows that have yet to
// authenticate; of authorized ones, a reset does (see conntrack.revoke). A
// client may knock again; one that must not has to be removed from the policy.
func (g *Gate) Revoke(t Target) Revocation {
	return g.revokeMatching(t.grant, t.flow)
}

// revokeMatching ends the grants and flows that match, a batch at a time.
func (g *Gate) revokeMatching(grant func(*grant) bool, flow func(*flow) bool) (r Revocation) {
	g.mu.Lock()
	var b batch
	for _, s := range g.sources.byAddr {
		r.Grants += g.sources.revoke(s, grant)
		b.yield(&g.mu)
	}
	var over [sweepBatch]packet.Tuple
	n, ended := 0, 0
	notify := func(flows []packet.Tuple) {
		for _, t := range flows {
			g.onRevoked(t)
		}
	}

	for t, f := range g.flows.byTuple {
		if !f.revoked && flow(f) {
			g.flows.revoke(f)
			over[ended] = t
			ended++
			r.Flows++
		}
		if n++; n%sweepBatch == 0 {
			g.mu.Unlock()
			notify(over[:ended])
			ended = 0
			runtime.Gosched()
			g.mu.Lock()
		}
	}
	g.mu.Unlock()
	notify(over[:ended])
	return r
}
