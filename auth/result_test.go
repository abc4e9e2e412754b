package auth

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestResultPeerFailed(t *testing.T) {
	blamed := map[Result]bool{ResultMalformed: true, ResultUnknown: true, ResultStale: true, ResultProof: true, ResultReplay: true}
	for r := range Result(NumResults) {
		if r.PeerFailed() != blamed[r] {
			t.Errorf("%v: PeerFailed is %v", r, r.PeerFailed())
		}
		if r.String() == "invalid" {
			t.Errorf("result %d has no name", r)
		}
	}
}

// Whatever error a store returns, wrapped or not, only a replay counts against
// the sender.
func TestClaimResult(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cause := rapid.SampledFrom([]error{nil, ErrReplayed, ErrReplayFull, errors.New("no space left on device"), errors.ErrUnsupported}).Draw(t, "cause")
		err := cause
		for range rapid.IntRange(0, 3).Draw(t, "wrapped") {
			if err != nil {
				err = fmt.Errorf("the store says: %w", err)
			}
		}
		got := claimResult(err)
		if (got == ResultReplay) != (cause == ErrReplayed) || (got == ResultOK) != (cause == nil) || got.PeerFailed() != (cause == ErrReplayed) {
			t.Fatalf("%v: %v", err, got)
		}
	})
}
