package filter

import (
	"errors"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
)

// ErrUnsupported reports that this system, or its kernel, has no packet filters.
var ErrUnsupported = errors.New("the kernel has no packet filters")

const (
	// TickInterval is how often Tick must be called.
	TickInterval = 100 * time.Millisecond
	// CookieWindow is the minimum for which stray ACKs to open services pass
	// after CookieMode: as long as the gate takes them for answers to SYN
	// cookies.
	CookieWindow = time.Minute
	// markDuration is the minimum for which the SYNs of a source pass after its
	// knock. By then the gate has read the knock, or the client resends its SYN.
	markDuration = time.Second
)

// Options sizes the tables of a Filter. With more entries than that it still
// works: then it passes every packet.
type Options struct {
	Flows    int            // flows in the gate's table
	Sources  int            // addresses with grants or knocks, besides those of flows
	Expected int            // knocks expected at a time, of all clients and slots
	Policy   *policy.Policy // nil: no services
}

// A Reason is why a packet was dropped. The gate has the same reasons.
type Reason uint8

// The reasons, as packet.DropReason and admission.Reason name them; enum reason
// in bpf/tables.h.
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

// String returns the reason's name, which is a metric label.
func (r Reason) String() string { return reasonNames[r] }

// A Table is how much of a table is in use. A table that overflows makes packets
// pass that the gate then drops.
type Table struct {
	Name        string // a metric label
	Used, Limit int
}

// A Count is the number of packets dropped for a reason.
type Count struct {
	Reason  Reason
	Packets uint64
}
