package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/gateway"
)

// manager is a service manager that receives notifications.
type manager struct {
	t *testing.T
	c *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "knockgw-notify-") // short, for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{t, c}
}

// hear returns the lines of the next message; none if none arrives within d.
func (m *manager) hear(d time.Duration) []string {
	m.t.Helper()
	if err := m.c.SetReadDeadline(time.Now().Add(d)); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.c.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(string(b[:n]), "\n")
}

const soonEnough = 10 * time.Second

func TestNotifierReload(t *testing.T) {
	m := newManager(t)
	n := &notifier{log: slog.New(slog.DiscardHandler)}
	n.ready()
	if got := m.hear(soonEnough); got[0] != "READY=1" {
		t.Errorf("told %q first", got)
	}
	for refusal, status := range map[error]string{nil: "STATUS=Protecting", errors.New("no"): "rejected"} {
		n.reload(func() error { return refusal })
		begin, end := m.hear(soonEnough), m.hear(soonEnough)
		stamp, ok := strings.CutPrefix(begin[1], "MONOTONIC_USEC=")
		if _, err := strconv.ParseUint(stamp, 10, 64); begin[0] != "RELOADING=1" || !ok || err != nil {
			t.Errorf("a reload began with %q", begin)
		}
		if end[0] != "READY=1" || !strings.Contains(end[1], status) {
			t.Errorf("a reload ended with %q, want %q", end, status)
		}
	}
	n.stopping()
	if got := m.hear(soonEnough); got[0] != "STOPPING=1" {
		t.Errorf("told %q in the end", got)
	}
}

func TestNotifierWatchdog(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, stop := context.WithCancel(t.Context())
	answers := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&notifier{log: slog.New(slog.DiscardHandler)}).watchdog(ctx, func() (gateway.Liveness, error) {
			<-answers // the gate, when it is deadlocked
			return gateway.Liveness{}, nil
		})
	}()
	for range 3 {
		answers <- struct{}{}
		if got := m.hear(soonEnough); len(got) != 1 || got[0] != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	if got := m.hear(100 * time.Millisecond); got != nil {
		t.Errorf("a gate that does not answer, and %q", got)
	}
	stop()
	close(answers)
	<-done
}

func TestNotifierWithoutServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	n := &notifier{log: slog.New(slog.DiscardHandler)}
	n.ready()
	n.watchdog(t.Context(), func() (gateway.Liveness, error) { t.Error("asked"); return gateway.Liveness{}, nil })
}

func TestNotifierImpaired(t *testing.T) {
	m := newManager(t)
	n := &notifier{log: slog.New(slog.DiscardHandler)}
	n.impaired([]string{"waiting for an address"}) // told with ready
	n.ready()
	if got := m.hear(soonEnough); len(got) != 2 || got[0] != "READY=1" || got[1] != "STATUS=Protecting, but waiting for an address" {
		t.Errorf("told %q first", got)
	}
	n.impaired(nil)
	if got := m.hear(soonEnough); len(got) != 1 || got[0] != "STATUS=Protecting" {
		t.Errorf("told %q then", got)
	}
}
