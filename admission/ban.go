package admission

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/internal/ratelimit"
	"github.com/knockgw/knockgw/packet"
)

// Ban says when a source that keeps failing to authenticate is banned from the
// open services. Only completed handshakes count, which prove that the address
// receives what is sent to it: an attacker cannot have another host banned by
// forging packets. A ban is for the address, or the /64 in IPv6. It never
// blocks a knock, nor a connection that a grant admits: a neighbor behind the
// same NAT may hold it.
type Ban struct {
	After  int           // failures; 0 for no bans
	Within time.Duration // of each other
	For    time.Duration
}

// maxFailing is how many sources' failures are remembered, some 100 bytes each.
const maxFailing = 1 << 15

// A BanEvent is a ban that begins.
type BanEvent struct {
	Source   netip.Prefix // that is banned
	From     netip.Addr   // the address of it that failed last
	Service  string       // at which it failed last; "" where that is gone
	Failures int
	For      time.Duration
}

// BanEntry is a source that is banned from the open services.
type BanEntry struct {
	Source netip.Prefix // an IPv4 address, or an IPv6 /64
	Left   time.Duration
}

// banTable has the failures and bans of sources.
type banTable struct {
	mu      *sync.Mutex // the gate's
	mono    func() time.Duration
	policy  Ban
	sources *ratelimit.Bans[packet.Addr]
}

func (b *banTable) init(mu *sync.Mutex, mono func() time.Duration, p Ban) {
	b.mu, b.mono, b.policy = mu, mono, p
	b.sources = ratelimit.NewBans[packet.Addr](ratelimit.BanPolicy(p), maxFailing)
}

// setPolicy replaces the policy. The caller holds the lock.
func (b *banTable) setPolicy(p Ban) {
	b.policy = p
	b.sources.SetPolicy(ratelimit.BanPolicy(p))
}

// isBanned reports whether a is banned. The caller holds the lock.
func (b *banTable) isBanned(a packet.Addr) bool {
	return b.sources.Len() > 0 && b.sources.Banned(a.Subnet(), b.mono())
}

// each calls f for every banned source until it returns false, a batch at a
// time.
func (b *banTable) each(f func(a packet.Addr, left time.Duration) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.mono()
	var n batch
	for a, s := range b.sources.All() {
		if s.Until > now && !f(a, s.Until-now) {
			return
		}
		n.yield(b.mu)
	}
}

// sweep forgets what has expired, up to a batch.
func (b *banTable) sweep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sources.Sweep(sweepBatch, b.mono())
}

// Failed counts a failed authentication against the source of a flow whose
// handshake is done. It does nothing for a flow that is gone, which the gate may
// have evicted itself.
func (g *Gate) Failed(t packet.Tuple) {
	g.mu.Lock()
	f := g.flows.byTuple[t]
	if f == nil || f.state == stateHandshake {
		g.mu.Unlock()
		return
	}
	failures, banned := g.bans.sources.Fail(t.Src.Subnet(), g.mono())
	e := BanEvent{Source: t.Src.SubnetPrefix(), From: t.Src.Netip(), Failures: failures, For: g.bans.policy.For}
	g.mu.Unlock()

	if !banned {
		return
	}
	if s := g.policy.Load().Lookup(t.Dst, t.DstPort); s != nil {
		e.Service = s.Name
	}
	g.onBan(e)
}

// newBanLogger returns the default of Options.Banned: it logs, at a limited
// rate.
func newBanLogger(log *slog.Logger, now func() time.Time) func(BanEvent) {
	var lines loglimit.Limiter
	return func(e BanEvent) {
		if suppressed, ok := lines.Allow(now()); ok {
			log.Info("source banned from open services", loglimit.Attrs(suppressed, "source", e.Source, "service", e.Service, "for", e.For)...)
		}
	}
}

// Bans lists up to limit bans, in no order.
func (g *Gate) Bans(limit int) (list []BanEntry) {
	g.bans.each(func(a packet.Addr, left time.Duration) bool {
		if len(list) == limit {
			return false
		}
		list = append(list, BanEntry{a.SubnetPrefix(), left})
		return true
	})
	return list
}

// Unban ends the bans of sources that overlap with p, and returns how many there
// were.
func (g *Gate) Unban(p netip.Prefix) (n int) {
	g.bans.each(func(a packet.Addr, _ time.Duration) bool {
		if a.SubnetPrefix().Overlaps(p) {
			g.bans.sources.Remove(a)
			n++
		}
		return true
	})
	return n
}
