package replay

import (
	"errors"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// Auth makes a Store remember authenticated messages too: an auth.Replay that
// shares the store of the knocks, and, where that is a file, its restarts.
type Auth struct {
	Store Store
	Now   func() time.Time // nil means time.Now
}

// Claim implements auth.Replay.
func (r Auth) Claim(client string, nonce []byte, until time.Time) error {
	now := r.Now
	if now == nil {
		now = time.Now
	}
	kind := KindTCPv2
	if len(nonce) != protocol.EnvelopePrefix {
		kind = KindTCPv1
	}

	batch := []Claim{{Kind: kind, Client: client, Nonce: nonce, Lifetime: until.Sub(now())}}
	r.Store.Claim(batch)
	switch err := batch[0].Err; {
	case errors.Is(err, ErrReplayed):
		return fmt.Errorf("%w", auth.ErrReplayed)
	case errors.Is(err, ErrFull):
		return fmt.Errorf("%w", auth.ErrReplayFull)
	default:
		return err
	}
}
