package auth

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Limiter says whether a connection from an address may begin its handshake now. remote is unmapped
// and without a zone, and not valid where the connection has no IP address. It must return at once.
type Limiter interface {
	Allow(remote netip.Addr) bool
}

// Defaults of a Rate.
const (
	DefaultBurst   = 20      // what a browser or a connection pool opens at a time, twice
	DefaultSources = 1 << 16 // some 10 MiB when they are all there
)

// Rate is how often one source may connect.
type Rate struct {
	PerSecond float64 // in the long run; required
	Burst     int     // at once, after a pause; zero means DefaultBurst
	// Sources bounds the sources that are told apart; zero means DefaultSources. Those beyond share one
	// rate, so that whoever has a great many addresses gains nothing by them.
	Sources int
}

// RateLimiter is a Limiter: a bucket of tokens for each source, an IPv4 address or an IPv6 /64. Its
// memory is bounded, and it keeps to the monotonic clock: setting the clock opens and jams nothing.
type RateLimiter struct {
	gap   time.Duration // between two tokens
	full  time.Duration // in which an empty bucket is full again
	most  int           // of sources, in each generation
	start time.Time

	// Instead of tokens it keeps, for each source, when its bucket will be full again: a source that is
	// not there has a full bucket. Two generations of sources take turns: one that was not asked about
	// for as long as a bucket takes to fill is as good as forgotten.
	mu       sync.Mutex
	now, old map[netip.Addr]time.Duration
	turned   time.Duration // when now became old the last time
	rest     time.Duration // the bucket that those beyond share
}

// slowest bounds how long a bucket may take to fill: nobody waits for longer than a year.
const slowest = 365 * 24 * time.Hour

// NewRateLimiter returns a RateLimiter whose buckets are full. What is wrong with r is ErrOptions.
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
	if !(gap >= 1 && gap*float64(r.Burst) <= float64(slowest)) {
		return nil, fmt.Errorf("%w: PerSecond is %v; it must be positive, 1e9 at most, and fill a bucket of %d in a year",
			ErrOptions, r.PerSecond, r.Burst)
	}
	return &RateLimiter{
		gap: time.Duration(gap), full: time.Duration(gap) * time.Duration(r.Burst), most: r.Sources, start: time.Now(),
		now: make(map[netip.Addr]time.Duration),
	}, nil
}

// Allow implements Limiter: it takes a token from remote's bucket, if there is one.
func (l *RateLimiter) Allow(remote netip.Addr) bool {
	now := time.Since(l.start)
	who := site(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.turned >= l.full {
		l.old, l.now, l.turned = l.now, make(map[netip.Addr]time.Duration), now
	}
	at, known := l.now[who]
	if !known {
		at = l.old[who]
	}
	if !known && len(l.now) >= l.most {
		return l.take(&l.rest, now)
	}
	allowed := l.take(&at, now)
	l.now[who] = at
	return allowed
}

// take takes a token from a bucket that will be full at *at, if there is one in it.
func (l *RateLimiter) take(at *time.Duration, now time.Duration) bool {
	next := max(*at, now) + l.gap
	if next-now > l.full {
		return false
	}
	*at = next
	return true
}

// site is what limits per source count: an IPv4 address, or an IPv6 /64, of which anybody has 2^64
// addresses.
func site(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// remoteAddr is the address that conn comes from, unmapped and without its zone; not valid where it has
// none.
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

// sources counts the connections in hand by source. A nil one has no bound.
type sources struct {
	most int

	mu   sync.Mutex
	held map[netip.Addr]int // no more entries than there are connections in hand
}

// take counts one more of a's source, if that may be.
func (s *sources) take(a netip.Addr) bool {
	if s == nil {
		return true
	}
	who := site(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[who] >= s.most {
		return false
	}
	s.held[who]++
	return true
}

// give takes back what take counted.
func (s *sources) give(a netip.Addr) {
	if s == nil {
		return
	}
	who := site(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[who]--; s.held[who] == 0 {
		delete(s.held, who)
	}
}
