package auth

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/ratelimit"
	"github.com/knockgw/knockgw/packet"
)

// A Limiter limits connections by their source.
type Limiter interface {
	// Allow reports whether a connection from an address may start its
	// handshake now. remote is unmapped and without a zone, and not valid if
	// the connection has no IP address. Allow must return at once.
	Allow(remote netip.Addr) bool
}

// Defaults of a Rate.
const (
	DefaultBurst   = 20      // twice what a browser or a connection pool opens at once
	DefaultSources = 1 << 16 // about 10 MiB if all are in use
)

// Rate limits how often one source may connect.
type Rate struct {
	PerSecond float64 // sustained; required
	Burst     int     // at once; zero means DefaultBurst
	// Sources limits how many sources have a bucket of their own; zero means
	// DefaultSources. The others share one bucket, so that an attacker gains
	// nothing from more addresses.
	Sources int
}

// RateLimiter is a Limiter with a token bucket for each source, an IPv4 address
// or an IPv6 /64. Its memory is bounded, and it uses the monotonic clock only:
// setting the clock neither refills nor blocks a bucket.
type RateLimiter struct {
	rate       ratelimit.Rate
	fillTime   time.Duration // in which an empty bucket is full again
	maxSources int           // in each generation
	start      time.Time

	// A source that is in neither generation has a full bucket. Every fillTime
	// the older one is dropped: each bucket in it that was not used since is
	// full again.
	mu        sync.Mutex
	cur, prev map[packet.Addr]ratelimit.Bucket
	rotatedAt time.Duration
	overflow  ratelimit.Bucket // shared by the sources beyond maxSources
}

// maxFillTime bounds how long a bucket may take to fill.
const maxFillTime = 365 * 24 * time.Hour

// NewRateLimiter returns a RateLimiter whose buckets are full. It returns an
// error that wraps ErrOptions if r is invalid.
func NewRateLimiter(r Rate) (*RateLimiter, error) {
	if r.Burst == 0 {
		r.Burst = DefaultBurst
	}
	if r.Sources == 0 {
		r.Sources = DefaultSources
	}
	if r.Burst < 0 || r.Sources < 0 {
		return nil, fmt.Errorf("%w: Burst and Sources must not be negative", ErrOptions)
	}
	gap := float64(time.Second) / r.PerSecond
	if !(gap >= 1 && gap*float64(r.Burst) <= float64(maxFillTime)) {
		return nil, fmt.Errorf("%w: PerSecond is %v; it must be positive, 1e9 at most, and fill a bucket of %d in a year",
			ErrOptions, r.PerSecond, r.Burst)
	}
	return &RateLimiter{
		rate:       ratelimit.Rate{PerSecond: r.PerSecond, Burst: float64(r.Burst)},
		fillTime:   time.Duration(gap * float64(r.Burst)),
		maxSources: r.Sources,
		start:      time.Now(),
		cur:        make(map[packet.Addr]ratelimit.Bucket),
	}, nil
}

// Allow implements Limiter: it takes a token from remote's bucket, if there is
// one, and reports whether there was.
func (l *RateLimiter) Allow(remote netip.Addr) bool {
	now := time.Since(l.start)
	source := sourceOf(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.rotatedAt >= l.fillTime {
		l.prev, l.cur, l.rotatedAt = l.cur, make(map[packet.Addr]ratelimit.Bucket), now
	}

	bucket, known := l.cur[source]
	if !known {
		bucket = l.prev[source]
	}
	if !known && len(l.cur) >= l.maxSources {
		return l.overflow.Take(1, l.rate, now)
	}
	allowed := bucket.Take(1, l.rate, now)
	l.cur[source] = bucket
	return allowed
}

// sourceOf returns the source that per-source limits count a by. Connections
// without an IP address are one source.
func sourceOf(a netip.Addr) packet.Addr {
	if !a.IsValid() {
		return packet.Addr{}
	}
	return packet.AddrFrom(a).Subnet()
}

// remoteAddr returns the remote IP address of conn, unmapped and without its
// zone. It is not valid if there is none.
func remoteAddr(conn net.Conn) netip.Addr {
	remote := conn.RemoteAddr()
	if remote == nil {
		return netip.Addr{}
	}
	from, ok := remote.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		parsed, err := netip.ParseAddrPort(remote.String())
		if err != nil {
			return netip.Addr{}
		}
		return parsed.Addr().Unmap().WithZone("")
	}
	return from.AddrPort().Addr().Unmap().WithZone("")
}

// sourceCounts counts the connections in flight by source. A nil one has no
// limit.
type sourceCounts struct {
	max int

	mu     sync.Mutex
	counts map[packet.Addr]int // no more entries than connections in flight
}

// add counts one more of a's source, if the limit allows it.
func (s *sourceCounts) add(a netip.Addr) bool {
	if s == nil {
		return true
	}
	source := sourceOf(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[source] >= s.max {
		return false
	}
	s.counts[source]++
	return true
}

// remove reverts add.
func (s *sourceCounts) remove(a netip.Addr) {
	if s == nil {
		return
	}
	source := sourceOf(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[source]--; s.counts[source] == 0 {
		delete(s.counts, source)
	}
}
