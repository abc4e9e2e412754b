package guard_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/internal/replay"
)

// fullDisk is a store that fails as one on a full disk does while full is set.
type fullDisk struct {
	replay.Store
	full atomic.Bool
}

func (s *fullDisk) Claim(batch []replay.Claim) {
	if !s.full.Load() {
		s.Store.Claim(batch)
		return
	}
	for i := range batch {
		batch[i].Err = fmt.Errorf("%w: no space left on device", replay.ErrUnrecorded)
	}
}

func TestGuardBansNoClientForAStoreThatFails(t *testing.T) {
	store := &fullDisk{Store: replay.NewMemoryStore(replay.Options{})}
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
