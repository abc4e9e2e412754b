package filter

import (
	"errors"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
)

// ErrUnsupported says that this system, or its kernel, has no such filters.
var ErrUnsupported = errors.New("no packet filters in this kernel")

const (
	// TickInterval is how often Tick is to be called.
	TickInterval = 100 * time.Millisecond
	// FloodTime is for how long after Flooded stray ACKs to open services pass,
	// at least: as long as the gate takes them for answers to SYN cookies.
	FloodTime = time.Minute
	// markDuration is how long a source is let through after a knock, at least: the
	// gate has seen the knock by then, or its client sends its SYN again.
	markDuration = time.Second
)

// Options say how much a Filter has room for. More than that still works, for
// then it passes every packet.
type Options struct {
	Flows    int            // in the gate's table
	Sources  int            // addresses with grants or knocks, besides those of the flows
	Expected int            // knocks that are expected at a time, of all clients and slots
	Policy   *policy.Policy // nil: no services
}

// A Reason is why a packet was dropped: the gate would have said the same.
type Reason uint8

// The reasons, in the gate's own words (packet.DropReason, admission.Reason).
const (
	reasonShort Reason = iota
	reasonVersion
	reasonHeaderLength
	reasonLength
	reasonFragment
	reasonTinyFragment
	reasonOptions
	reasonExtension
	reasonAddress
	reasonProtocol
	reasonTransport
	reasonPort
	reasonNotService
	reasonNoFlow
	reasonNoGrant
	reasonNotKnock
	reasonICMP
	reasonCount
)

var reasonNames = [reasonCount]string{
	"malformed-short", "malformed-version", "malformed-header-length", "malformed-length",
	"malformed-fragment", "malformed-fragment-tiny", "malformed-ip-options", "malformed-extension-header",
	"malformed-address", "malformed-protocol", "malformed-transport-header", "malformed-port-zero",
	"no-service", "no-flow", "no-grant", "not-a-knock", "icmp",
}

// String returns the reason's name, fit for a metric label.
func (r Reason) String() string { return reasonNames[r] }

// A Table is how much of a table is in use. One that overflows lets packets pass that
// the gate then refuses.
type Table struct {
	Name        string // fit for a metric label
	Used, Limit int
}

// A Count is how many packets were dropped for a reason.
type Count struct {
	Reason  Reason
	Packets uint64
}
