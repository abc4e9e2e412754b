//go:build linux

package netns_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// A record is where a gateway keeps its audit: a small file system of its own.
type record struct{ dir, file string }

func newRecord(t *testing.T) record {
	t.Helper()
	dir, err := os.MkdirTemp("", "knockgw-audit-")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32768,mode=0700,uid=65534,gid=65534"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		_ = os.Remove(dir)
	})
	return record{dir, filepath.Join(dir, "audit.log")}
}

// has waits until the file has an event that is meant, and fails the test if a
// line is not whole.
func (r record) has(t *testing.T, what string, meant func(e *audit.Event) bool) {
	t.Helper()
	for end := time.Now().Add(answerTime); ; time.Sleep(sampleEvery) {
		b, err := os.ReadFile(r.file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var e audit.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if meant(&e) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not in\n%s", what, b)
		}
	}
}

// The gateway that writes it has no privileges, and neither a disk nor its file
// for sure.
func TestAuditSurvivesFullDiskAndRotation(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 0).String())
	d := endpoint{name: "hidden", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:8002"), upstream: s.Addr}
	r := newRecord(t)
	g := l.NewSite(t, program.get(t), configuration(d)+"audit: {file: "+r.file+"}\n").Start(t)
	visit := func() {
		t.Helper()
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Fatal(err)
		}
	}
	session := func(e *audit.Event) bool { return e.Kind == audit.Session && e.Client == "alice" }
	visit()
	r.has(t, "a session", session)
	if info, err := os.Stat(r.file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	if err := os.Rename(r.file, r.file+".moved"); err != nil {
		t.Fatal(err)
	}
	visit()
	r.has(t, "a session, in a file that was created again,", session)

	ballast := filepath.Join(r.dir, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 1<<16), 0o600) // as much of it as there is room for
	const tries = 100                                     // what fits into the block that was begun, and more
	for range tries {
		if visit(); g.Metrics()["knockgw_audit_dropped_events_total"] > 0 {
			break
		}
	}
	if lost := g.Metrics()["knockgw_audit_dropped_events_total"]; lost == 0 {
		t.Error("on a full disk no event was lost")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	visit()
	r.has(t, "how many events are missing", func(e *audit.Event) bool { return e.Dropped > 0 })
	if n := strings.Count(g.Log(), "cannot write the audit log"); n != 1 {
		t.Errorf("it was said %d times that cannot write the audit log", n)
	}
	g.Stop()
	r.has(t, "the end", func(e *audit.Event) bool { return e.Kind == audit.Stop })
}
