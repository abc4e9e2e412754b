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

// offence is a source's record of failures.
type offence struct {
	count int
	first time.Duration
	until time.Duration // banned until then; 0 if it is not
}

// maxOffences is how many sources' failures are remembered, some 100 bytes
// each. When there are more, new ones go unrecorded until old ones are over: a
// ban is a saving, not a lock.
const maxOffences = 1 << 15

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
	if e, banned := g.offend(t); banned {
		if s := g.policy.Load().Lookup(t.Dst, t.DstPort); s != nil {
			e.Service = s.Name
		}
		g.banned(e)
	}
}

// logBan is what is done about a ban where nobody wants to be told.
func (g *Gate) logBan(e BanEvent) {
	if leftOut, ok := g.banLines.Allow(g.now()); ok {
		g.log.Info("source banned from open services", loglimit.Attrs(leftOut, "source", e.Source, "service", e.Service, "for", e.For)...)
	}
}

// offend is Failed but for the telling.
func (g *Gate) offend(t packet.Tuple) (e BanEvent, banned bool) {
	who := siteAddr(t.Src)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ban.After <= 0 {
		return e, false
	}
	if f := g.flows[t]; f == nil || f.state == opening {
		return e, false
	}
	now := g.mono()
	o := g.offences[who]
	if o == nil {
		if len(g.offences) >= maxOffences {
			return e, false
		}
		o = &offence{first: now}
		g.offences[who] = o
	}
	if now-o.first > g.ban.Within {
		o.count, o.first = 0, now
	}
	if o.count++; o.count < g.ban.After {
		return e, false
	}
	banned = o.until <= now // and not by a handshake that had begun before
	e = BanEvent{Source: sitePrefix(who), From: t.Src.Netip(), Failures: o.count, For: g.ban.For}
	o.until = now + g.ban.For
	o.count, o.first = 0, now
	return e, banned
}

// isBanned tells whether a is banned. The caller holds g.mu.
func (g *Gate) isBanned(a packet.Addr) bool {
	if len(g.offences) == 0 {
		return false
	}
	o := g.offences[siteAddr(a)]
	return o != nil && o.until > g.mono()
}

// countBans returns how many sources are banned, a batch at a time: the packet path
// does not wait for the whole of it.
func (g *Gate) countBans() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	var b batch
	for _, o := range g.offences {
		if o.until > now {
			n++
		}
		b.next(g)
	}
	return n
}

// sweepOffences forgets what is over, a batch at a time.
func (g *Gate) sweepOffences() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	sweepSome(g.offences,
		func(o *offence) bool { return o.until <= now && now-o.first > g.ban.Within },
		func(who packet.Addr) { delete(g.offences, who) })
}
