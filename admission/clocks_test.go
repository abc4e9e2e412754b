package admission

import (
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/replay"
)

// testClocks are a wall clock and a monotonic clock that a test moves apart.
type testClocks struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

func newTestClocks() *testClocks {
	return &testClocks{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// advance moves both clocks.
func (c *testClocks) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

// stepWall moves the wall clock only.
func (c *testClocks) stepWall(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}

func (c *testClocks) options() replay.Options {
	return replay.Options{
		Now:  func() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.wall },
		Mono: func() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.mono },
	}
}

// openFile opens a store that the test closes at its end. Closing it equals the
// death of its process: every claim is in the file before it is answered.
func openFile(t testing.TB, dir string, o replay.Options) *replay.FileStore {
	t.Helper()
	s, err := replay.OpenFileStore(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
