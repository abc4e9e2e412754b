package admission

import (
	"net/netip"
	"runtime"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// A Target says whose grants and flows are meant: those that fit every field that
// is set. One without any means everybody's.
type Target struct {
	Client  string
	Service string
	Source  netip.Prefix   // that they come from
	Flow    netip.AddrPort // the client's end of one connection; no grants are meant then
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

// Revoke ends grants and flows. Of flows that still must authenticate nothing more
// gets out; of those that were let in, a reset (see revokeFlow). A client may knock
// again; one that must not is taken out of the policy.
func (g *Gate) Revoke(t Target) Revocation {
	return g.end(t.grant, t.flow)
}

// batch counts entries that were looked at with the lock held, and lets go of it
// after each batch: the packet path does not wait for the whole of a table.
type batch struct{ looked int }

// yield counts one. The caller holds g.mu, and does again.
func (b *batch) yield(g *Gate) {
	if b.looked++; b.looked%sweepBatch == 0 {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
}

// end ends the grants and flows that are meant, a batch at a time.
func (g *Gate) end(grant func(*grant) bool, flow func(*flow) bool) (r Revocation) {
	g.mu.Lock()
	var b batch
	for _, s := range g.sources {
		r.Grants += g.endGrants(s, grant)
		b.yield(g)
	}
	var over [sweepBatch]packet.Tuple
	n, ended := 0, 0
	for t, f := range g.flows {
		if !f.revoked && flow(f) {
			g.revokeFlow(f)
			over[ended] = t
			ended++
			r.Flows++
		}
		if n++; n%sweepBatch == 0 {
			g.mu.Unlock()
			g.notifyRevoked(over[:ended])
			ended = 0
			runtime.Gosched()
			g.mu.Lock()
		}
	}
	g.mu.Unlock()
	g.notifyRevoked(over[:ended])
	return r
}

// revokeTime is how long at least a revoked flow stays in the table.
const revokeTime = time.Second

// revokeFlow ends a flow. A client that was let in knows of the service, and would
// wait for minutes if it heard nothing: from now on a reset of its flow may leave,
// and nothing else. The flow stays for as long as in TIME_WAIT, so that segments
// that the client sends because the reset was lost are answered with another. The
// caller holds g.mu and has the stack abort the flow then.
func (g *Gate) revokeFlow(f *flow) {
	if f.key == nil {
		g.drop(f)
		return
	}
	if f.state < stateClosing {
		g.releaseQuota(f)
	}
	f.unlink()
	f.state, f.revoked = stateTimeWait, true
	f.expires = g.mono() + max(g.timeWait, revokeTime)
	g.inTimeWait.push(f)
}

// endGrants ends the grants of s that are meant, and returns how many. The caller
// holds g.mu.
func (g *Gate) endGrants(s *source, meant func(*grant) bool) int {
	n := 0
	for _, gr := range s.grants {
		if meant(gr) {
			gr.revoked, gr.uses = true, 0
			n++
		}
	}
	if n > 0 {
		g.expireGrants(s, g.mono())
		g.removeIfUnused(s)
	}
	return n
}

// A Grant is what a knock has earned, as Grants lists it.
type Grant struct {
	Client, Service string
	Source          netip.Addr
	Port            uint16        // the only source port that it lets in; 0: any
	Left            time.Duration // until it lets nobody in any more; negative: handshakes begun on it go on
	Uses            int           // left
	Handshakes      int           // under way on it
}

// Grants lists up to most grants, in no order, a batch of sources at a time.
func (g *Gate) Grants(most int) []Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	var (
		list []Grant
		b    batch
	)
	for _, s := range g.sources {
		for _, gr := range s.grants {
			if gr.expired(now) {
				continue
			}
			if len(list) == most {
				return list
			}
			list = append(list, Grant{
				Client: gr.key.ID(), Service: gr.service.service.Name, Source: s.addr.Netip(), Port: gr.port,
				Left: gr.expires - now, Uses: gr.uses, Handshakes: gr.pending.n(),
			})
		}
		b.yield(g)
	}
	return list
}

// BanEntry is a source that is shut out of the open services.
type BanEntry struct {
	Source netip.Prefix // an IPv4 address, or an IPv6 /64
	Left   time.Duration
}

// Bans lists up to most bans, in no order.
func (g *Gate) Bans(most int) []BanEntry {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	var (
		list []BanEntry
		b    batch
	)
	for a, f := range g.bans.All() {
		if f.Until > now {
			if len(list) == most {
				break
			}
			list = append(list, BanEntry{a.SubnetPrefix(), f.Until - now})
		}
		b.yield(g)
	}
	return list
}

// Unban ends the bans of sources that have something in common with p, and
// returns how many there were.
func (g *Gate) Unban(p netip.Prefix) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, n := g.mono(), 0
	var b batch
	for a, f := range g.bans.All() {
		if f.Until > now && a.SubnetPrefix().Overlaps(p) {
			g.bans.Remove(a)
			n++
		}
		b.yield(g)
	}
	return n
}
