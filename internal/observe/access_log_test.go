package observe

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
)

func TestAccessLogLimitsDeniedKnocks(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	l := newAccessLog(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now }, new(Audit))
	event := knock.Event{
		Result: knock.Replayed, Source: netip.MustParseAddr("192.0.2.1"), Client: "alice", Service: "ssh", Method: "tcp-syn",
	}
	count := func() int { return strings.Count(out.String(), "knock denied") }
	for range 10_000 {
		l.Knock(&event)
	}
	if n := count(); n != loglimit.PerSecond {
		t.Errorf("%d lines about ten thousand copies", n)
	}
	// Admissions have a limit of their own.
	l.Knock(&knock.Event{Result: knock.OK, Client: "alice", Service: "ssh", Method: "udp"})
	if n := strings.Count(out.String(), "msg=knock "); n != 1 {
		t.Errorf("%d lines about a knock", n)
	}
	now = now.Add(time.Second)
	l.Knock(&event)
	if want := "suppressed=9995"; count() != loglimit.PerSecond+1 || !strings.Contains(out.String(), want) {
		t.Errorf("a second later: %d lines, the last without %s", count(), want)
	}
	now = now.Add(-time.Hour) // the clock is set
	l.Knock(&event)
	if n := count(); n != loglimit.PerSecond+2 {
		t.Errorf("%d lines after the clock was set back", n)
	}
}
