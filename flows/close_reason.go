package flows

import (
	"context"
	"errors"
)

// A CloseReason says why a flow ended.
type CloseReason uint8

// The reasons.
const (
	CloseEOF             CloseReason = iota // both directions have ended
	CloseClientReset                        // the client's connection failed
	CloseUpstreamReset                      // the upstream's connection failed
	CloseIdle                               // no byte was relayed for the idle time
	CloseKilled                             // revoked or evicted
	CloseDrained                            // the gateway stopped
	CloseHandshake                          // the client did not complete its handshake
	CloseNoGrant                            // the gate rejected it
	CloseUnauthenticated                    // authentication failed
	CloseUpstreamRefused                    // dialing the upstream failed
	CloseUpstreamTimeout                    // dialing the upstream timed out

	numCloseReasons
)

// NumCloseReasons is the size of an array indexed by CloseReason.
const NumCloseReasons = int(numCloseReasons)

var closeReasonNames = [NumCloseReasons]string{
	"done", "client-reset", "upstream-reset", "idle", "killed", "drained", "handshake",
	"no-grant", "unauthenticated", "upstream-refused", "upstream-timeout",
}

// String returns the name of the reason, which is suitable as a metric label.
func (r CloseReason) String() string { return closeReasonNames[r] }

// sendsReset reports whether a client that waits for its upstream gets a reset.
func (r CloseReason) sendsReset() bool { return r == CloseUpstreamRefused || r == CloseDrained }

// Causes of a flow's context.
var (
	errKilled  = errors.New("killed")
	errDrained = errors.New("drain timed out")
	errIdle    = errors.New("idle")
)

// closeReason returns the reason for which a flow's context ended, or otherwise
// if it has not.
func closeReason(ctx context.Context, otherwise CloseReason) CloseReason {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errKilled):
		return CloseKilled
	case errors.Is(cause, errIdle):
		return CloseIdle
	case cause != nil:
		return CloseDrained
	default:
		return otherwise
	}
}
