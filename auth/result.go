package auth

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// Result is how a handshake ended: an enumeration, for counters.
type Result uint8

// The results.
const (
	ResultOK            Result = iota
	ResultMalformed            // the bytes are no message of an enabled format, or say nonsense inside
	ResultUnknown              // no candidate's secret opens the message
	ResultStale                // the time is outside the window
	ResultProof                // server: a proof is asked for and disabled; client: the proof is wrong
	ResultUnauthorized         // Authorize refused
	ResultReplay               // the nonce was claimed before
	ResultFull                 // the replay store is full
	ResultTimeout              // the deadline passed before the whole message was there
	ResultClosed               // the stream ended or failed before the whole message was there
	ResultCanceled             // the context ended
	ResultMisconfigured        // the options do not pass Check
	ResultLimited              // not tried: its source has, or all have, as much as they may
	ResultStoreFailed          // the replay store could not record the nonce
	// NumResults is the size of an array indexed by a Result.
	NumResults int = iota
)

// String is a short constant name, fit for a metric's label.
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

// PeerFailed reports whether the result is evidence against the peer: whether it counts towards a ban.
// What this host could not do (record a nonce, find room, finish in time), what was not tried, and a
// message that is authentic, fresh and unused but not authorized, are not: its sender knows the secret.
func (r Result) PeerFailed() bool {
	switch r {
	case ResultMalformed, ResultUnknown, ResultStale, ResultProof, ResultReplay:
		return true
	default:
		return false
	}
}

// claimResult is the result of a handshake whose Replay has answered err. Only ErrReplayed says that the
// message was seen before: an error that is not known is taken for a store that failed, which refuses
// the message and is held against no peer.
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

// Error is a failed handshake. It is for the operator's counters and logs, never for the peer.
type Error struct {
	Result Result
	// Client is whose message it was, or nil if none opened. A message that
	// opened is authentic, whatever was wrong with it after that.
	Client *protocol.Client
	// ClockOffset is the message's time less ours, if Client is set: positive when the peer's clock is
	// ahead. It is where to look when the result is ResultStale.
	ClockOffset time.Duration
	Err         error // the cause, or nil
}

// Error says what happened.
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

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// ResultOf is the Result in err: ResultOK for nil, and that of the *Error otherwise.
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

// newError is an *Error for a reason and its cause.
func newError(result Result, cause error) *Error { return &Error{Result: result, Err: cause} }

// readError is the *Error for a read or write that failed. err is what the connection said.
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

// openError is the *Error for what package protocol refused.
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
