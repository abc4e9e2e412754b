package auth

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// Result is the outcome of a handshake, as an enumeration for counters.
type Result uint8

// The results.
const (
	ResultOK            Result = iota
	ResultMalformed            // not a message of an enabled format, or inconsistent content
	ResultUnknown              // no candidate's secret opens the message
	ResultStale                // the time is outside the window
	ResultProof                // server: a proof is requested but disabled; client: the proof is wrong
	ResultUnauthorized         // Authorize refused
	ResultReplay               // the nonce was claimed before
	ResultFull                 // the replay store is full
	ResultTimeout              // the deadline passed before the message was complete
	ResultClosed               // the stream ended or failed before the message was complete
	ResultCanceled             // the context ended
	ResultMisconfigured        // the options do not pass Check
	ResultLimited              // not tried: a limit of its source or of all sources
	ResultStoreFailed          // the replay store could not record the nonce
	// NumResults is the size of an array indexed by a Result.
	NumResults int = iota
)

// String returns a short constant name, suitable as a metric label.
func (r Result) String() string {
	switch r {
	case ResultOK:
		return "ok"
	case ResultMalformed:
		return "malformed"
	case ResultUnknown:
		return "unknown"
	case ResultStale:
		return "stale"
	case ResultProof:
		return "proof"
	case ResultUnauthorized:
		return "unauthorized"
	case ResultReplay:
		return "replay"
	case ResultFull:
		return "full"
	case ResultTimeout:
		return "timeout"
	case ResultClosed:
		return "closed"
	case ResultCanceled:
		return "canceled"
	case ResultMisconfigured:
		return "misconfigured"
	case ResultLimited:
		return "limited"
	case ResultStoreFailed:
		return "store-failed"
	default:
		return "invalid"
	}
}

// PeerFailed reports whether the result is evidence against the peer and counts
// towards a ban. Failures of this host (to record a nonce, to find room, to
// finish in time), handshakes that were not tried, and a message that is
// authentic, fresh and unused but not authorized are not: its sender knows the
// secret.
func (r Result) PeerFailed() bool {
	switch r {
	case ResultMalformed, ResultUnknown, ResultStale, ResultProof, ResultReplay:
		return true
	default:
		return false
	}
}

// claimResult returns the result for an error of Replay. Only ErrReplayed means
// that the message was seen before: an unknown error is a failure of the store,
// which refuses the message and does not count against the peer.
func claimResult(err error) Result {
	switch {
	case err == nil:
		return ResultOK
	case errors.Is(err, ErrReplayed):
		return ResultReplay
	case errors.Is(err, ErrReplayFull):
		return ResultFull
	default:
		return ResultStoreFailed
	}
}

// Error is a failed handshake. It is for counters and logs, never for the peer.
type Error struct {
	Result Result
	// Client is the sender of the message, or nil if no message opened. A
	// message that opened is authentic, whatever check failed after that.
	Client *protocol.Client
	// ClockOffset is the message's time minus ours, if Client is set: positive
	// if the peer's clock is ahead. It explains ResultStale.
	ClockOffset time.Duration
	Err         error // the cause, or nil
}

// Error implements error.
func (e *Error) Error() string {
	text := "auth: handshake failed: " + e.Result.String()
	if e.Result == ResultStale {
		text += " (clock differs by " + e.ClockOffset.String() + ")"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ResultOf returns the Result in err: ResultOK for nil, otherwise that of the
// *Error.
func ResultOf(err error) Result {
	if err == nil {
		return ResultOK
	}
	var failure *Error
	if errors.As(err, &failure) {
		return failure.Result
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ResultCanceled
	}
	return ResultClosed
}

// newError returns an *Error with a result and its cause.
func newError(result Result, cause error) *Error { return &Error{Result: result, Err: cause} }

// readError returns the *Error for a failed read or write.
func readError(ctx context.Context, err error) *Error {
	var timeout interface{ Timeout() bool }
	switch {
	case ctx.Err() != nil:
		return newError(ResultCanceled, context.Cause(ctx))
	case errors.As(err, &timeout) && timeout.Timeout():
		return newError(ResultTimeout, err)
	case errors.Is(err, io.EOF):
		return newError(ResultClosed, io.ErrUnexpectedEOF)
	default:
		return newError(ResultClosed, err)
	}
}

// openError returns the *Error for a message that package protocol refused.
func openError(err error) *Error {
	switch {
	case errors.Is(err, protocol.ErrSealed),
		errors.Is(err, protocol.ErrPort),
		errors.Is(err, protocol.ErrClientHash):
		return newError(ResultUnknown, err)
	default:
		return newError(ResultMalformed, err)
	}
}
