package knock

import (
	"time"

	"github.com/knockgw/knockgw/internal/ratelimit"
	"github.com/knockgw/knockgw/packet"
)

// The cost of a datagram that may be a v1 knock grows with the number of
// clients that could have sent it: their format forces us to try one key after
// the other. So it is charged before the first HMAC to token buckets: its
// source's, its subnet's, and one for all. The last two are counted in HMACs
// (some 160 ns each), which bounds the processor time that unknown sources can
// take, whatever the number of clients; the packets themselves never wait for
// it. A subnet may take a part of the total, so that junk from one leaves the
// others their share. The authentications of open services cost the same, and
// have buckets of their own.
//
// A source that has knocked successfully within the last hour is tried with the
// clients that it had then, which is cheap and has buckets of its own: junk from
// elsewhere cannot lock it out.
//
// A knock that matches the precomputed table is a client's, or a copy off the
// wire. It is charged to buckets of its method, which datagrams that merely
// look like v1 knocks cannot drain. Copies can arrive from everywhere, so these
// are charged to the knock that they copy, too: an attacker who has seen one
// client's knock can obstruct that client's knocks to one service, with a
// thousand copies a second, and no others.
const (
	unknownRate, unknownBurst             = 32, 128    // datagrams or connections a second, from one address
	unknownSubnetRate, unknownSubnetBurst = 256, 512   // from one IPv4 /24 or IPv6 /64
	knownRate, knownBurst                 = 1024, 1024 // from one address that is known, by one method
	matchedRate, matchedBurst             = 1024, 1024 // of one client for one port and slot
	hmacRate                              = 1 << 20    // HMACs a second, in all: about a sixth of a core
	hmacBurst                             = 1 << 18

	// subnetShare is the part of the HMACs for unknown sources, one in so many,
	// that one IPv4 /24 or IPv6 /64 may take in the long run.
	subnetShare = 4
	// reportShare is the part of the HMACs, one in so many, that may be spent on
	// knocks of no client of the service, to report whose they are.
	reportShare = 16

	// The cost of a decision once a knock was matched, in HMACs' time.
	openCost = 16 // opening a udp-v2 datagram, some 0.7 microseconds, and deciding it
	synCost  = 8  // deciding a SYN knock, which needs no opening
)

// The methods with token buckets of their own for each source, and in all.
const (
	limitV1 = iota
	limitV2
	limitSYN
	numLimits
)

// A Limiter holds the token buckets of knocks and authentications, in tables of
// fixed size. The zero value is not usable; see newLimiter.
type Limiter struct {
	seed            ratelimit.Seed // of all tables
	knocks          trialLimit     // v1 knocks of unknown sources
	authentications trialLimit     // those to be tried with every client
	sources         [numLimits]ratelimit.Table
	matched         ratelimit.Table             // by the knock that was matched
	reports         ratelimit.Bucket            // HMACs to report whose knocks are that open nothing
	known           ratelimit.Bucket            // HMACs for sources that are known
	opens           [numLimits]ratelimit.Bucket // HMACs' time for matched knocks, by method
}

// newLimiter returns a limiter with full buckets.
func newLimiter() *Limiter { return &Limiter{seed: ratelimit.NewSeed(0)} }

// trialLimit bounds attempts of unknown sources that have to be tried with one
// client after the other.
type trialLimit struct {
	sources ratelimit.Table
	subnets ratelimit.Table
	shares  ratelimit.Table  // HMACs, by subnet
	total   ratelimit.Bucket // HMACs
}

// allow charges a trial of n keys for a to its source's bucket, its subnet's,
// and the one for all.
func (t *trialLimit) allow(l *Limiter, a packet.Addr, n int, now time.Duration) bool {
	l.seed.Rotate(now)
	subnet, keys := a.Network(), float64(n)
	// One trial must be affordable, however many clients there are.
	burst := max(hmacBurst, keys)
	return ratelimit.Lookup(&t.sources, &l.seed, a).Take(1, rate(unknownRate, unknownBurst), now) &&
		ratelimit.Lookup(&t.subnets, &l.seed, subnet).Take(1, rate(unknownSubnetRate, unknownSubnetBurst), now) &&
		ratelimit.Lookup(&t.shares, &l.seed, subnet).Take(keys, rate(hmacRate/subnetShare, burst), now) &&
		t.total.Take(keys, rate(hmacRate, burst), now)
}

// AllowAuthentication charges an authentication from a that is tried with n
// keys.
func (l *Limiter) AllowAuthentication(a packet.Addr, n int, now time.Duration) bool {
	return l.authentications.allow(l, a, n, now)
}

// allowUnknown charges a datagram of an unknown source that is tried with n
// keys.
func (l *Limiter) allowUnknown(a packet.Addr, n int, now time.Duration) bool {
	return l.knocks.allow(l, a, n, now)
}

// allowKnown charges a datagram of a known source that is tried with n keys.
func (l *Limiter) allowKnown(a packet.Addr, n int, now time.Duration) bool {
	l.seed.Rotate(now)
	return l.allowSource(limitV1, a, now) && l.known.Take(float64(n), rate(hmacRate, hmacBurst), now)
}

// allowReport charges a trial of the n keys of all clients with a knock that
// opened nothing. That only explains the failure, so it has a bucket of its own,
// on which other knocks do not depend.
func (l *Limiter) allowReport(n int, now time.Duration) bool {
	return l.reports.Take(float64(n), rate(hmacRate/reportShare, max(hmacBurst/reportShare, float64(n))), now)
}

// allowMatched charges a knock from a that was matched in the table.
func (l *Limiter) allowMatched(a packet.Addr, m *Match, now time.Duration) bool {
	cost, method := float64(synCost), limitSYN
	if m.kind == kindV2 {
		cost, method = openCost, limitV2
	}
	return l.allowSource(method, a, now) &&
		ratelimit.Lookup(&l.matched, &l.seed, m.claimKey()).Take(1, rate(matchedRate, matchedBurst), now) &&
		l.opens[method].Take(cost, rate(hmacRate, hmacBurst), now)
}

// allowSource charges a source's knock by a method that is cheap to decide.
func (l *Limiter) allowSource(method int, a packet.Addr, now time.Duration) bool {
	return ratelimit.Lookup(&l.sources[method], &l.seed, a).Take(1, rate(knownRate, knownBurst), now)
}

func rate(perSecond, burst float64) ratelimit.Rate {
	return ratelimit.Rate{PerSecond: perSecond, Burst: burst}
}
