package admission

import (
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/replay"
)

// testClocks are two clocks that a test moves apart.
type testClocks struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

func newTestClocks() *testClocks {
	return &testClocks{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// pass lets time pass on both.
func (c *testClocks) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

// step sets the wall clock.
func (c *testClocks) step(d time.Duration) {
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

// openFile opens a store that the test closes at its end. Closing it is what
// the death of its process does: every claim is in the file before it is
// answered.
func openFile(t testing.TB, dir string, o replay.Options) *replay.FileStore {
	t.Helper()
	s, err := replay.OpenFileStore(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
