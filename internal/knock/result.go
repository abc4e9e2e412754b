package knock

import (
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// An Answer says what the packet path did with a packet that may be a knock.
type Answer uint8

// The answers.
const (
	NotService   Answer = iota // no service takes knocks at that address and port
	NotKnock                   // it cannot be a knock
	OverBudget                 // too many attempts of its source, its subnet or of all
	QueueFull                  // too many knocks wait, of all or of its source
	PartReceived               // a part of a SYN sequence that is not complete yet
	Queued                     // a worker decides
)

// A Result is how the decision about a knock ended.
type Result uint8

// The results of a knock.
const (
	OK              Result = iota // it made a grant
	Incomplete                    // a part of a sequence that is not complete yet
	Repeated                      // a SYN knock that its first sender repeats, where that earns nothing
	UnknownClient                 // no client's key fits
	Malformed                     // it opened, but something inside contradicts the format
	MethodRefused                 // a method that the service does not take
	NoSession                     // no session id where one is required
	Stale                         // outside the time window
	Replayed                      // seen before
	OutsideSchedule               // the client has expired, or it is outside its hours
	WrongSource                   // bound to another source address
	LimitReached                  // too many grants or sequences, or the replay store is full
	BudgetExceeded                // the budget was spent before its client was found
	StoreFailed                   // the replay store could not write
	Forbidden                     // of a known client that may not use the service
	NumResults
)

var resultNames = [NumResults]string{
	"ok", "incomplete", "repeat", "unknown", "malformed", "method", "no-session", "stale", "replay",
	"outside-schedule", "source", "limit", "budget", "store-failed", "forbidden",
}

// String returns the result's name, fit for a metric label.
func (r Result) String() string { return resultNames[r] }

var resultDescriptions = [NumResults]string{
	OK:              "the client may connect",
	Incomplete:      "a part of a sequence; the others have not arrived yet",
	Repeated:        "a SYN knock that its first sender has repeated, which earns nothing more",
	UnknownClient:   "no client's secret opens it",
	Malformed:       "it opens, but its contents contradict the format",
	MethodRefused:   "the service does not take this method",
	NoSession:       "it has no session id, which the service requires",
	Stale:           "its time is too far from ours: a clock is wrong, or it was delayed",
	Replayed:        "it was seen before",
	OutsideSchedule: "the client has expired, or it is outside its hours",
	WrongSource:     "it is valid from another source address only",
	LimitReached:    "too many grants or sequences, or the replay store is full",
	BudgetExceeded:  "the budget was spent before its client was found",
	StoreFailed:     "the replay store could not record it",
	Forbidden:       "the client may not use this service (clients[].services)",
}

// Description explains the result in a sentence without its beginning.
func (r Result) Description() string { return resultDescriptions[r] }

// An Event is a knock that was decided. Fields are zero as far as they are
// unknown.
type Event struct {
	Result  Result
	Source  netip.Addr
	Client  string        // once a client's key fitted
	Service string        // once a client's key fitted
	Method  string        // once a client's key fitted
	Session string        // the session id with which the connection will authenticate; "" for none
	Skew    time.Duration // the message's time less ours, if Timed
	Timed   bool          // the message opened and names a time, which a SYN does not
	Err     error         // StoreFailed: why
}

// A Decision is a knock that was decided, and what a grant is made of where its
// Result is OK.
type Decision struct {
	Event   Event
	Src     packet.Addr
	Service *policy.Service
	Key     *protocol.Client
	Port    uint16 // the only source port that the grant is for; 0 for any
}
