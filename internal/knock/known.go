package knock

import (
	"math"
	"time"

	"github.com/knockgw/knockgw/packet"
)

const (
	// ClientsPerSource is how many clients of one address are remembered: an
	// office behind a NAT has several.
	ClientsPerSource = 8
	// MaxKnownSources is how many sources are remembered, 200 bytes each.
	MaxKnownSources = 1 << 14

	// KnownTime is how long a source is remembered after its last good knock.
	KnownTime = time.Hour
	// evictSample is how many known sources are examined to find one to evict.
	evictSample = 8
)

// KnownSources remembers from which addresses clients have knocked lately. The
// gate's lock guards it.
type KnownSources struct {
	byAddr map[packet.Addr]*knownSource
}

// knownSource is an address with the clients that knocked from it, the latest
// first.
type knownSource struct {
	ids  [ClientsPerSource]string
	last time.Duration
}

func newKnownSources() KnownSources {
	return KnownSources{byAddr: make(map[packet.Addr]*knownSource)}
}

// Record notes that client knocked from a.
func (n *KnownSources) Record(a packet.Addr, client string, now time.Duration) {
	s := n.byAddr[a]
	if s == nil {
		if len(n.byAddr) >= MaxKnownSources {
			n.evict()
		}
		s = new(knownSource)
		n.byAddr[a] = s
	}

	s.last = now
	i := 0
	for i < ClientsPerSource-1 && s.ids[i] != client && s.ids[i] != "" {
		i++
	}
	copy(s.ids[1:i+1], s.ids[:i])
	s.ids[0] = client
}

// Clients returns the clients that knocked from a, the latest first; "" where
// there are no more.
func (n *KnownSources) Clients(a packet.Addr) (ids [ClientsPerSource]string) {
	if s := n.byAddr[a]; s != nil {
		ids = s.ids
	}
	return ids
}

// Known reports whether a client has knocked from a lately.
func (n *KnownSources) Known(a packet.Addr, now time.Duration) bool {
	s := n.byAddr[a]
	return s != nil && now-s.last <= KnownTime
}

// Len returns how many sources are remembered.
func (n *KnownSources) Len() int { return len(n.byAddr) }

// evict makes room: of a few sources, chosen at random, it forgets the one that
// knocked longest ago.
func (n *KnownSources) evict() {
	var (
		oldest   packet.Addr
		last     time.Duration = math.MaxInt64
		examined int
	)
	for a, s := range n.byAddr {
		if s.last < last {
			oldest, last = a, s.last
		}
		if examined++; examined == evictSample {
			break
		}
	}
	delete(n.byAddr, oldest)
}

// Sweep forgets those of up to batch sources that have not knocked for
// KnownTime. The order of a map is random, so later calls reach the others.
func (n *KnownSources) Sweep(batch int, now time.Duration) {
	for a, s := range n.byAddr {
		if now-s.last > KnownTime {
			delete(n.byAddr, a)
		}
		if batch--; batch == 0 {
			return
		}
	}
}
