package guard

import (
	"errors"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// Replay makes a gate's store remember what authenticated, too: one store for the knocks and the
// connections of a program, and, being a file, for its next start.
type Replay struct {
	Store admission.Store
	Now   func() time.Time // nil means time.Now
}

// Claim implements auth.Replay.
func (r Replay) Claim(client string, nonce []byte, until time.Time) error {
	now := r.Now
	if now == nil {
		now = time.Now
	}
	kind := admission.ClaimTCPv2
	if len(nonce) != protocol.EnvelopePrefix {
		kind = admission.ClaimTCPv1
	}
	batch := []admission.Claim{{Kind: kind, Client: client, Nonce: nonce, Lifetime: until.Sub(now())}}
	r.Store.Claim(batch)
	switch err := batch[0].Err; {
	case errors.Is(err, admission.ErrReplay):
		return fmt.Errorf("%w", auth.ErrReplayed)
	case errors.Is(err, admission.ErrStoreFull):
		return fmt.Errorf("%w", auth.ErrReplayFull)
	default:
		return err
	}
}
