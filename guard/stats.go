package guard

import (
	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/internal/knock"
)

// These types are shared with the gate of package gateway, so that package
// metrics reads both. Their fields are covered by the promise of this package.
type (
	// KnockEvent is the outcome of a knock: Result, the address that sent it
	// (Source), and, once a key matched, Client, Service and Method. Session is
	// the session ID in it, Skew the client's clock minus ours if Timed.
	KnockEvent = knock.Event
	// KnockResult is the result of a knock. Its String is a short name, such as
	// "ok", "replay" or "stale".
	KnockResult = knock.Result
	// Stats are counters and gauges of a gate.
	Stats = admission.Stats
	// Usage is how much of a limited resource is used.
	Usage = admission.Usage
)

// The results of knocks that programs act on; for the others, see their String.
const (
	KnockOK     = knock.OK       // it made a grant
	KnockReplay = knock.Replayed // a copy of an accepted knock
	KnockStale  = knock.Stale    // its time is outside the window
)
