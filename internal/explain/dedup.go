package explain

import (
	"hash/maphash"
	"time"

	"github.com/knockgw/knockgw/capture"
)

// A capture of all interfaces (tcpdump -i any) has packets that the host
// forwards twice: as received, and as sent, with the TTL reduced by one. The
// second is not a packet of its own: a knock would be taken for its replay.

const (
	// forwardTime is how long a packet takes through a host that is not stalled.
	forwardTime = 100 * time.Millisecond
	// dedupSlots is how many packets are remembered, 40 bytes each; on a
	// collision the newer one replaces the older.
	dedupSlots = 4096
)

// seenPacket is a packet that may be seen again when it is forwarded.
type seenPacket struct {
	digest uint64 // of the bytes that do not change on the way
	ttl    byte
	at     time.Time
}

// dedup remembers the packets of a capture.
type dedup struct {
	seed  maphash.Seed
	slots [dedupSlots]seenPacket
}

// Offsets of the fields that a router changes, in bytes from the start of the IP
// header, and the sizes of the headers.
const (
	ttlV4        = 8
	checksumV4   = 10
	checksumSize = 2
	hopLimitV6   = 7
	minHeaderV4  = 20
	minHeaderV6  = 40
)

// forwarded reports whether r is a packet that was seen a moment ago with a TTL
// that was higher by one. Otherwise it remembers r.
func (d *dedup) forwarded(r *capture.Record) bool {
	b := r.Data
	if len(b) == 0 {
		return false
	}
	var h maphash.Hash
	h.SetSeed(d.seed)
	p := seenPacket{at: r.Time}
	switch version := b[0] >> 4; {
	case version == 4 && len(b) >= minHeaderV4:
		p.ttl = b[ttlV4]
		_, _ = h.Write(b[:ttlV4])
		_, _ = h.Write(b[ttlV4+1 : checksumV4])
		_, _ = h.Write(b[checksumV4+checksumSize:])
	case version == 6 && len(b) >= minHeaderV6:
		p.ttl = b[hopLimitV6]
		_, _ = h.Write(b[:hopLimitV6])
		_, _ = h.Write(b[hopLimitV6+1:])
	default:
		return false
	}

	p.digest = h.Sum64()
	slot := &d.slots[p.digest%dedupSlots]
	age := r.Time.Sub(slot.at)
	if slot.digest == p.digest && slot.ttl == p.ttl+1 && age >= 0 && age <= forwardTime {
		return true
	}
	*slot = p
	return false
}
