package admission

import (
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
)

// What makes a source pending, and what ends that:
//
//	           datagram that could be a knock
//	unknown  -------------------------------------> pending (queued = 1)
//	   ^                                              |   ^  | its SYNs are deferred:
//	   |    a knock decided: each of its deferred     |   |  | at most 128 each,
//	   '--- SYNs passes, if a grant has room for it,--'   |  | 4096 in all, 1 s
//	        or, if no knock that came before it           '--'  more knocks: queued++
//	        waits, passes on any grant or is dropped
//
// Knocks that come after a SYN do not delay it: a neighbor's junk could do that
// forever.

// knockDone ends a knock: it makes the grant, if there is one to make, and has
// the source's deferred SYNs decided again.
func (g *Gate) knockDone(d *knock.Decision) {
	g.mu.Lock()
	s := g.sources.byAddr[d.Src] // exists: this knock is counted in it
	s.queued--
	s.done++
	if d.Event.Result == knock.OK {
		d.Event.Result = g.issueGrant(s, d)
	}
	if g.waiting > 0 {
		close(g.decided)
		g.decided = make(chan struct{})
	}
	deferred := s.deferred
	g.sources.removeIfUnused(s)
	g.mu.Unlock()

	g.stats.knocks[d.Event.Result].Add(1)
	for range deferred {
		if !g.retryDeferred(&g.retry, d.Src) {
			break
		}
	}
	if e := &d.Event; e.Result == knock.StoreFailed {
		if suppressed, ok := g.storeLines.Allow(g.now()); ok {
			g.log.Error("replay store failed; knock refused", loglimit.Attrs(suppressed, "err", e.Err)...)
		}
	}
	g.onKnock(d.Event)
}

// issueGrant makes the grant of a good knock from s, unless the policy has
// changed since the knock was opened and has no room for it. The caller holds
// g.mu.
func (g *Gate) issueGrant(s *source, d *knock.Decision) knock.Result {
	at := g.servicesByName[d.Service.Name]
	if at == nil || !at.service.SameEndpoint(d.Service) {
		return knock.UnknownClient
	}
	client := at.service.ClientOf(d.Key)
	if client == nil {
		return knock.UnknownClient
	}
	now := g.mono()
	gr := &grant{
		key: d.Key, service: at, session: d.Event.Session, port: d.Port,
		expires: now + at.service.GrantTTL, uses: at.service.GrantUses,
	}
	g.knocks.Known.Record(d.Src, client.ID, now)
	if !g.sources.addGrant(s, gr, client, now) {
		return knock.LimitReached
	}
	return knock.OK
}

// rotateTable replaces the table of precomputed knocks if the clock has reached
// another slot, or was set, since it was built.
func (g *Gate) rotateTable(b *knock.Builder) {
	g.rebuildMu.Lock()
	defer g.rebuildMu.Unlock()
	next := g.knocks.NextTable(b)
	if next == nil {
		return
	}
	g.offload.Expect(next.Len(), next.Fields())
	g.mu.Lock()
	old := g.knocks.SetTable(next)
	g.mu.Unlock()
	b.Recycle(old) // look-ups hold the lock, so nothing reads it any more
}
