package replay

import (
	"errors"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

func TestAuthClaimTranslatesStoreErrors(t *testing.T) {
	store := NewMemoryStore(Options{MaxKeys: 4, MaxPerClient: 2})
	replay := Auth{Store: store}
	until := time.Now().Add(time.Minute)
	v1, v2 := make([]byte, 16), make([]byte, protocol.EnvelopePrefix)
	for _, test := range []struct {
		nonce []byte
		want  error
	}{{v1, nil}, {v1, auth.ErrReplayed}, {v2, nil}, {v2, auth.ErrReplayed}, {append(v1[:15:15], 1), auth.ErrReplayFull}} {
		if err := replay.Claim("alice", test.nonce, until); !errors.Is(err, test.want) {
			t.Errorf("%x: %v, want %v", test.nonce, err, test.want)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	err := replay.Claim("alice", v1, until)
	if !errors.Is(err, ErrClosed) || errors.Is(err, auth.ErrReplayed) || errors.Is(err, auth.ErrReplayFull) {
		t.Errorf("of a closed store: %v", err)
	}
}
