package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/replay"
)

// FileReplay is an auth.Replay that survives restarts: it is in memory, and
// every accepted message is written to a file before Claim returns. It is not
// synced to the disk, so a power cut may lose the last seconds. One process at a
// time can open a directory. Its methods are safe for concurrent use.
type FileReplay struct{ store *replay.FileStore }

// OpenFileReplay opens the replay store in dir and creates what is missing. log
// receives reports of damaged files and of failures to write; nil discards them.
func OpenFileReplay(dir string, log *slog.Logger) (*FileReplay, error) {
	store, err := replay.OpenFileStore(dir, replay.Options{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	return &FileReplay{store}, nil
}

// Claim implements auth.Replay.
func (r *FileReplay) Claim(client string, nonce []byte, until time.Time) error {
	return replay.Auth{Store: r.store}.Claim(client, nonce, until)
}

// Writable returns an error if the next claims could not be written, because the
// disk is full, read-only or gone.
func (r *FileReplay) Writable() error { return r.store.Writable() }

// Close closes the files. Later claims fail.
func (r *FileReplay) Close() error { return r.store.Close() }

// newStore returns the gate's store and the auth.Replay of the authentications
// that share Options.Replay.
func (o *Options) newStore() (replay.Store, auth.Replay) {
	switch r := o.Replay.(type) {
	case nil:
		store := replay.NewMemoryStore(replay.Options{Now: o.Now, Logger: o.Log})
		return store, replay.Auth{Store: store, Now: o.Now}
	case *FileReplay:
		return r.store, replay.Auth{Store: r.store, Now: o.Now}
	default:
		return authStore{r, o.Now}, r
	}
}

// authStore is the gate's store in an auth.Replay. The gate claims knocks only:
// the kind of message precedes their nonces.
type authStore struct {
	replay auth.Replay
	now    func() time.Time
}

// Claim implements replay.Store.
func (s authStore) Claim(batch []replay.Claim) {
	now := s.now()
	for i := range batch {
		c := &batch[i]
		nonce := append([]byte{byte(c.Kind)}, c.Nonce...)
		err := s.replay.Claim(c.Client, nonce, now.Add(c.Lifetime))
		switch {
		case errors.Is(err, auth.ErrReplayed):
			err = replay.ErrReplayed
		case errors.Is(err, auth.ErrReplayFull):
			err = replay.ErrFull
		case err != nil:
			err = fmt.Errorf("%w: %w", replay.ErrUnrecorded, err)
		}
		c.Err = err
	}
}

// Close implements replay.Store. The auth.Replay is its owner's to close.
func (authStore) Close() error { return nil }
