package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/testclock"
)

func storeOptions(c *testclock.Clocks) replay.Options {
	return replay.Options{Now: c.Now, Mono: c.Mono}
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
