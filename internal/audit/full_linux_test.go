package audit

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that is truly full: it takes a part of a line and no more.
func TestFileKeepsWholeLinesOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	const size = 64 << 10
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=65536"); err != nil {
		t.Skipf("a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "audit.log")
	f, err := OpenFile(FileOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	const events = 1000
	said := 0
	// Lines of one length: a shorter one, of a time with fewer digits, may fit
	// where the one before did not.
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := New(f, Options{PerSecond: events, Now: func() time.Time { return at }, Failed: func(err error) {
		if said++; !errors.Is(err, unix.ENOSPC) {
			t.Error(err)
		}
	}})
	for range events {
		l.Add(Event{Kind: Session, Client: "alice", Reason: strings.Repeat("x", maxText)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) > size || !strings.HasSuffix(string(b), "\n") {
		t.Fatalf("%d bytes, %v, ending in %q", len(b), err, b[max(0, len(b)-20):])
	}
	lines := 0
	for line := range strings.Lines(string(b)) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		// The last may be the one that says how many are missing: it is
		// shorter, and fits if there is room for it by chance.
		if e.Kind != Dropped {
			lines++
		}
	}
	if said != 1 || lines+int(l.Dropped()) != events {
		t.Errorf("%d lines, %d lost, said %d times", lines, l.Dropped(), said)
	}
}
