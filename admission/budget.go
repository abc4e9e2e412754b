package admission

import (
	"time"

	"github.com/knockgw/knockgw/internal/ratelimit"
	"github.com/knockgw/knockgw/packet"
)

// What a datagram that could be a v1 knock costs grows with the clients that
// could have sent it: their format makes us try one after the other. So it is
// paid for before the first HMAC, from token buckets: its source's, its subnet's,
// and one for all. The last two are counted in HMACs (some 160 ns each), which
// bounds the processor time that strangers can take, whatever the number of
// clients; the packets themselves never wait for it. A subnet may take a part of
// what there is for all, so that junk from one leaves the others their share. The
// authentications of open services cost the same, and have buckets of their own.
//
// A source that has knocked successfully within the last hour is tried with the
// clients that it had then, which is cheap and has buckets of its own: junk from
// elsewhere cannot lock it out.
//
// What is found in the table of expected knocks is a client's, or a copy off the
// wire. It is paid for from buckets of its method, which what merely looks like a
// v1 knock cannot drain. Copies can come from everywhere, so these are paid for by
// what they are copies of, too: an attacker who has heard one client can get in
// the way of that client's knocks to one service, with a thousand copies a second,
// and of no others.
const (
	coldRate, coldBurst           = 32, 128    // datagrams or connections a second, from one address
	coldPrefixRate, coldPrefBurst = 256, 512   // from one IPv4 /24 or IPv6 /64
	warmRate, warmBurst           = 1024, 1024 // from one address that is known, by one method
	foundRate, foundBurst         = 1024, 1024 // of one client for one port and slot
	hmacRate                      = 1 << 20    // HMACs a second, in all: about a sixth of a core
	hmacBurst                     = 1 << 18

	// subnetShare is the part of the HMACs for strangers, one in so many, that those
	// of one IPv4 /24 or IPv6 /64 may take in the long run.
	subnetShare = 4
)

// budgets are all token buckets, in tables of fixed size.
type budgets struct {
	seed            ratelimit.Seed // of all tables
	knocks          trialLimit     // v1 knocks of unknown sources
	authentications trialLimit     // those to be tried with every client
	warm            [numWarm]ratelimit.Table
	found           ratelimit.Table
	reports         ratelimit.Bucket          // HMACs to tell whose knocks are that open nothing
	known           ratelimit.Bucket          // HMACs for sources that are known
	opens           [numWarm]ratelimit.Bucket // HMACs' time for what was found in the table, by method
}

// The methods with token buckets of their own for each source, and in all.
const (
	warmV1 = iota
	warmV2
	warmSYN
	numWarm
)

// trialLimit bounds what strangers send that has to be tried with one client
// after the other.
type trialLimit struct {
	sources ratelimit.Table
	subnets ratelimit.Table
	shares  ratelimit.Table  // HMACs, by subnet
	scans   ratelimit.Bucket // HMACs, in all
}

// allow pays for a try of n keys for a: from its source's buckets, its subnet's,
// and that for all.
func (l *trialLimit) allow(b *budgets, a packet.Addr, n int, now time.Duration) bool {
	b.seed.Rotate(now)
	subnet, keys := a.Network(), float64(n)
	// One try must be affordable, however many clients there are.
	burst := max(hmacBurst, keys)
	return ratelimit.Lookup(&l.sources, &b.seed, a).Take(1, rate(coldRate, coldBurst), now) &&
		ratelimit.Lookup(&l.subnets, &b.seed, subnet).Take(1, rate(coldPrefixRate, coldPrefBurst), now) &&
		ratelimit.Lookup(&l.shares, &b.seed, subnet).Take(keys, rate(hmacRate/subnetShare, burst), now) &&
		l.scans.Take(keys, rate(hmacRate, burst), now)
}

// payKnown pays for a datagram of a known source, which is tried with n keys.
func (b *budgets) payKnown(a packet.Addr, n int, now time.Duration) bool {
	b.seed.Rotate(now)
	return b.payWarm(warmV1, a, now) && b.known.Take(float64(n), rate(hmacRate, hmacBurst), now)
}

// reportShare is the part of the HMACs, one in so many, that may be spent on
// knocks of no client of the service, to tell whose they are.
const reportShare = 16

// payReport pays for trying the n keys of all clients with a knock that opened
// nothing. That is only to explain it, so it has a bucket of its own, which other
// knocks do not depend on.
func (b *budgets) payReport(n int, now time.Duration) bool {
	return b.reports.Take(float64(n), rate(hmacRate/reportShare, max(hmacBurst/reportShare, float64(n))), now)
}

// What deciding costs once a knock was found in the table, in HMACs' time.
const (
	openCost = 16 // opening a udp-v2 datagram, some 0.7 microseconds, and deciding it
	synCost  = 8  // deciding a SYN knock, which needs no opening
)

// payFound pays for a knock from a that was found in the table.
func (b *budgets) payFound(a packet.Addr, h *hit, now time.Duration) bool {
	cost, method := float64(synCost), warmSYN
	if h.kind == expectV2 {
		cost, method = openCost, warmV2
	}
	return b.payWarm(method, a, now) &&
		ratelimit.Lookup(&b.found, &b.seed, h.owner()).Take(1, rate(foundRate, foundBurst), now) &&
		b.opens[method].Take(cost, rate(hmacRate, hmacBurst), now)
}

// payWarm pays for a source's knocks by one method that are cheap to decide.
func (b *budgets) payWarm(method int, a packet.Addr, now time.Duration) bool {
	return ratelimit.Lookup(&b.warm[method], &b.seed, a).Take(1, rate(warmRate, warmBurst), now)
}

func rate(perSecond, burst float64) ratelimit.Rate {
	return ratelimit.Rate{PerSecond: perSecond, Burst: burst}
}

const (
	// seenClients is how many clients of one address are remembered: an office
	// behind a NAT has several.
	seenClients = 8
	// seenTime is how long a source is remembered after its last good knock.
	seenTime = time.Hour
	// maxSeen is how many sources are remembered, 200 bytes each.
	maxSeen = 1 << 14
	// seenSample is how many of them are looked at to find one to forget.
	seenSample = 8
)

// seen is what a source knocked as, the latest first.
type seen struct {
	ids  [seenClients]string
	last time.Duration
}

// remember notes that client knocked from a. The caller holds g.mu.
func (g *Gate) remember(a packet.Addr, client string, now time.Duration) {
	s := g.seen[a]
	if s == nil {
		if len(g.seen) >= maxSeen {
			g.forgetSeen()
		}
		s = new(seen)
		g.seen[a] = s
	}
	s.last = now
	i := 0
	for i < seenClients-1 && s.ids[i] != client && s.ids[i] != "" {
		i++
	}
	copy(s.ids[1:i+1], s.ids[:i])
	s.ids[0] = client
}

// forgetSeen makes room: of a few remembered sources, taken at random, the one
// that was seen longest ago goes. The caller holds g.mu.
func (g *Gate) forgetSeen() {
	var (
		oldest packet.Addr
		last   time.Duration = 1<<63 - 1
		n      int
	)
	for a, s := range g.seen {
		if s.last < last {
			oldest, last = a, s.last
		}
		if n++; n == seenSample {
			break
		}
	}
	delete(g.seen, oldest)
}

// known tells whether a has knocked lately. The caller holds g.mu.
func (g *Gate) known(a packet.Addr, now time.Duration) bool {
	s := g.seen[a]
	return s != nil && now-s.last <= seenTime
}

// sweepSeen forgets the sources whose hour is over, a batch at a time.
func (g *Gate) sweepSeen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	sweepSome(g.seen,
		func(s *seen) bool { return now-s.last > seenTime },
		func(a packet.Addr) { delete(g.seen, a) })
}
