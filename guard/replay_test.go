package guard_test

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/guard"
)

// fullDisk is an auth.Replay that fails like one on a full disk while full is
// set.
type fullDisk struct {
	auth.Replay
	full atomic.Bool
}

func (r *fullDisk) Claim(client string, nonce []byte, until time.Time) error {
	if r.full.Load() {
		return errors.New("no space left on device")
	}
	return r.Replay.Claim(client, nonce, until)
}

func TestGuardBansNoClientForStoreFailure(t *testing.T) {
	store := &fullDisk{Replay: auth.NewMemoryReplay(nil)}
	store.full.Store(true)
	w := newHarness(t, "127.0.0.1", func(o *guard.Options) {
		o.Replay, o.Ban = store, guard.Ban{After: 2, Within: time.Minute, For: time.Minute}
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
	near, far := w.connect(alice, open)
	_ = near.Close()
	_ = far.Close()
}

func TestGuardReplayKinds(t *testing.T) {
	for name, replay := range map[string]func(t *testing.T) auth.Replay{
		"memory": func(*testing.T) auth.Replay { return nil },
		"own":    func(*testing.T) auth.Replay { return auth.NewMemoryReplay(nil) },
		"file": func(t *testing.T) auth.Replay {
			r, err := guard.OpenFileReplay(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newHarness(t, "127.0.0.1", func(o *guard.Options) { o.Replay = replay(t) })
			near, far := w.connect(alice, quiet)
			_ = near.Close()
			_ = far.Close()
			near, far = w.connect(alice, api)
			_ = near.Close()
			_ = far.Close()
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, e := range w.events {
				if e.Result != guard.KnockOK {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// recorder remembers the nonces that it is asked for.
type recorder struct {
	mu     sync.Mutex
	nonces [][]byte
	err    error
}

func (r *recorder) Claim(_ string, nonce []byte, _ time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nonces = append(r.nonces, append([]byte(nil), nonce...))
	return r.err
}

func TestGuardClaimsKnocksWithTheirKind(t *testing.T) {
	for want, err := range map[string]error{
		"replay":       auth.ErrReplayed,
		"limit":        auth.ErrReplayFull,
		"store-failed": errors.New("no space left on device"),
	} {
		r := &recorder{err: err}
		w := newHarness(t, "127.0.0.1", func(o *guard.Options) { o.Replay = r })
		w.refused(w.dialer(alice, quiet).DialContext(t.Context(), "tcp", w.addrs[quiet]))
		w.mu.Lock()
		if len(w.events) == 0 || w.events[0].Result.String() != want {
			t.Errorf("%v: %+v", err, w.events)
		}
		w.mu.Unlock()
		r.mu.Lock()
		if len(r.nonces) == 0 || len(r.nonces[0]) != 17 {
			t.Errorf("nonces %x", r.nonces)
		}
		r.mu.Unlock()
	}
}

func TestFileReplaySurvivesRestart(t *testing.T) {
	dir, nonce, until := t.TempDir(), make([]byte, 16), time.Now().Add(time.Minute)
	for n, want := range []error{nil, auth.ErrReplayed} {
		r, err := guard.OpenFileReplay(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Claim("alice", nonce, until); !errors.Is(err, want) {
			t.Errorf("start %d: %v, want %v", n, err, want)
		}
		if err := r.Writable(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.OpenFileReplay(dir+"/file", nil); err == nil {
		t.Error("a file was opened as a directory")
	}
}
