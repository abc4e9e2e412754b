package gateway

import (
	"hash/maphash"
	"time"

	"github.com/knockgw/knockgw/capture"
)

// A capture of all interfaces (tcpdump -i any) has what the host forwards twice: as it
// came, and as it left, with a hop less. The second is no packet of its own: a knock
// would be taken for its replay.

const (
	// forwardTime is how long a packet takes through a host that is not stalled.
	forwardTime = 100 * time.Millisecond
	// forwardSlots is how many packets are remembered, at 40 bytes each; one takes the
	// place of another.
	forwardSlots = 4096
)

// passage is one packet that was seen.
type passage struct {
	digest uint64 // of what stays the same on the way
	hops   byte   // that were left to it
	at     time.Time
}

// passages are the packets of a capture that may be seen again on their way out.
type passages struct {
	seed  maphash.Seed
	slots [forwardSlots]passage
}

// Where the fields are that a router changes, in bytes from the IP header's beginning.
const (
	hopsV4     = 8
	checksumV4 = 10
	checksum   = 2 // its size
	hopsV6     = 7
	leastV4    = 20
	leastV6    = 40
)

// forwarded tells whether r is a packet that was seen a moment ago with one hop more,
// and remembers it if not.
func (p *passages) forwarded(r *capture.Record) bool {
	b := r.Data
	if len(b) == 0 {
		return false
	}
	var h maphash.Hash
	h.SetSeed(p.seed)
	now := passage{at: r.Time}
	switch version := b[0] >> 4; {
	case version == 4 && len(b) >= leastV4:
		now.hops = b[hopsV4]
		_, _ = h.Write(b[:hopsV4])
		_, _ = h.Write(b[hopsV4+1 : checksumV4])
		_, _ = h.Write(b[checksumV4+checksum:])
	case version == 6 && len(b) >= leastV6:
		now.hops = b[hopsV6]
		_, _ = h.Write(b[:hopsV6])
		_, _ = h.Write(b[hopsV6+1:])
	default:
		return false
	}
	now.digest = h.Sum64()
	slot := &p.slots[now.digest%forwardSlots]
	took := r.Time.Sub(slot.at)
	if slot.digest == now.digest && slot.hops == now.hops+1 && took >= 0 && took <= forwardTime {
		return true
	}
	*slot = now
	return false
}
