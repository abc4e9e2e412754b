package guard_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

func TestAStoreSpeaksAsAReplayToTheAuthentication(t *testing.T) {
	store := admission.NewMemoryStore(admission.StoreOptions{MaxKeys: 4, MaxPerClient: 2})
	replay := guard.Replay{Store: store}
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
	if !errors.Is(err, admission.ErrStoreClosed) || errors.Is(err, auth.ErrReplayed) || errors.Is(err, auth.ErrReplayFull) {
		t.Errorf("of a closed store: %v", err)
	}
}

// fullDisk is a store that fails as one on a full disk does while full is set.
type fullDisk struct {
	admission.Store
	full atomic.Bool
}

func (s *fullDisk) Claim(batch []admission.Claim) {
	if !s.full.Load() {
		s.Store.Claim(batch)
		return
	}
	for i := range batch {
		batch[i].Err = fmt.Errorf("%w: no space left on device", admission.ErrUnrecorded)
	}
}

func TestGuardBansNoClientForAStoreThatFails(t *testing.T) {
	store := &fullDisk{Store: admission.NewMemoryStore(admission.StoreOptions{})}
	store.full.Store(true)
	w := newWorld(t, "127.0.0.1", func(o *guard.Options) {
		o.Store, o.Ban = store, admission.Ban{After: 2, Within: time.Minute, For: time.Minute}
		for i := range o.Services {
			o.Services[i].Auth.Deadline = 200 * time.Millisecond
		}
	})
	for range 5 {
		if conn, err := w.dialer(alice, open).DialContext(t.Context(), "tcp", w.addrs[open]); err == nil {
			_ = conn.Close()
			t.Fatal("in, although her message could not be recorded")
		}
	}
	if n := w.guard.Stats().Bans; n != 0 || w.result(auth.ResultReplay) != 0 || w.result(auth.ResultStoreFailed) == 0 {
		t.Errorf("%d bans, %d replays, %d failures of the store", n, w.result(auth.ResultReplay), w.result(auth.ResultStoreFailed))
	}
	store.full.Store(false)
	near, far := w.visit(alice, open)
	_ = near.Close()
	_ = far.Close()
}
