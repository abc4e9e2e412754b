package protocol

import (
	"math"
	"time"
)

// Defaults that both sides use unless they are configured otherwise.
// (docs/wire-formats.md, Conventions.)
const (
	DefaultKnockPort      = 62201            // UDP
	DefaultWindow         = 30 * time.Second // how far a message's time may be from the receiver's, either way
	DefaultSlot           = 30 * time.Second // the length of the time slots of udp-v2 and tcp-syn-seq
	DefaultSequenceLength = 3                // parts
	DefaultSequenceWindow = 5 * time.Second  // from the first part of a UDP sequence to the last
	DefaultGrantTTL       = 15 * time.Second // from the knock to the connection
)

// ClockOffset returns a message's time, in Unix milliseconds, minus now. It has
// the precision of the wire, a millisecond: windows are inclusive, and must not
// end within one. A difference too large for a Duration (292 years) is the
// largest Duration.
func ClockOffset(ms int64, now time.Time) time.Duration {
	const maxOffset = math.MaxInt64 / int64(time.Millisecond)
	offset := ms - now.UnixMilli() // neither is negative on a clock after 1970: no overflow
	return time.Duration(min(max(offset, -maxOffset), maxOffset)) * time.Millisecond
}
