package observe

import (
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/packet"
)

// A Sink receives the events of a running gateway. Its methods are called from
// many goroutines, some of them on the packet path, and must not block. Events
// are borrowed for the call.
type Sink interface {
	// Knock reports a knock that was processed.
	Knock(e *knock.Event)
	// Auth reports an authentication that ended.
	Auth(e *AuthEvent)
	// Flow reports the end of a flow.
	Flow(f *flows.Flow, reason flows.CloseReason)
	// Ban reports the start of a ban.
	Ban(e *admission.BanEvent)
	// Packet reports the verdict on a packet. It is called only while
	// Observer.Capturing returns true.
	Packet(e *capture.Event)
}

// An AuthEvent is the outcome of an authentication.
type AuthEvent struct {
	Service string
	Tuple   packet.Tuple
	Result  auth.Result
	Took    time.Duration
	Peer    *auth.Peer  // nil if it failed
	Err     *auth.Error // nil if it succeeded, or was canceled
}

// canceled reports whether the authentication ended without a result.
func (e *AuthEvent) canceled() bool { return e.Peer == nil && e.Err == nil }

// noEvents is embedded by sinks that handle only some of the events.
type noEvents struct{}

func (noEvents) Knock(*knock.Event)                  {}
func (noEvents) Auth(*AuthEvent)                     {}
func (noEvents) Flow(*flows.Flow, flows.CloseReason) {}
func (noEvents) Ban(*admission.BanEvent)             {}
func (noEvents) Packet(*capture.Event)               {}
