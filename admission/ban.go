package admission

import (
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/packet"
)

// Ban says when a source that keeps failing to authenticate is shut out of the
// open services. Only completed handshakes count, which prove that the address
// receives what is sent to it: nobody can have another banned by forging
// packets. A ban is for the address, or the /64 in IPv6. It never blocks a
// knock, nor a connection that a grant lets in: a neighbour behind the same NAT
// may have earned it.
type Ban struct {
	After  int           // failures; 0 for no bans
	Within time.Duration // of each other
	For    time.Duration
}

// maxFailing is how many sources' failures are remembered, some 100 bytes each.
const maxFailing = 1 << 15

// A BanEvent is a ban that begins.
type BanEvent struct {
	Source   netip.Prefix // who is banned
	From     netip.Addr   // the address of it that failed last
	Service  string       // at which; "" where that is gone
	Failures int
	For      time.Duration
}

// Failed counts a failed authentication against the source of a flow whose
// handshake is done. It does nothing for a flow that is gone, which the gate may
// have evicted itself.
func (g *Gate) Failed(t packet.Tuple) {
	if e, banned := g.recordFailure(t); banned {
		if s := g.policy.Load().Lookup(t.Dst, t.DstPort); s != nil {
			e.Service = s.Name
		}
		g.onBan(e)
	}
}

// logBan is what is done about a ban where nobody wants to be told.
func (g *Gate) logBan(e BanEvent) {
	if leftOut, ok := g.banLines.Allow(g.now()); ok {
		g.log.Info("source banned from open services", loglimit.Attrs(leftOut, "source", e.Source, "service", e.Service, "for", e.For)...)
	}
}

// recordFailure is Failed but for the telling.
func (g *Gate) recordFailure(t packet.Tuple) (e BanEvent, banned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows[t]; f == nil || f.state == stateHandshake {
		return e, false
	}
	failures, banned := g.bans.Fail(t.Src.Subnet(), g.mono())
	return BanEvent{Source: t.Src.SubnetPrefix(), From: t.Src.Netip(), Failures: failures, For: g.ban.For}, banned
}

// isBanned tells whether a is banned. The caller holds g.mu.
func (g *Gate) isBanned(a packet.Addr) bool {
	return g.bans.Len() > 0 && g.bans.Banned(a.Subnet(), g.mono())
}

// countBans returns how many sources are banned, a batch at a time: the packet path
// does not wait for the whole of it.
func (g *Gate) countBans() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	var b batch
	for _, f := range g.bans.All() {
		if f.Until > now {
			n++
		}
		b.yield(g)
	}
	return n
}

// sweepBans forgets what is over, a batch at a time.
func (g *Gate) sweepBans() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bans.Sweep(sweepBatch, g.mono())
}
