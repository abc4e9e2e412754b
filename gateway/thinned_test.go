package gateway

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
)

func TestRefusedKnocksDoNotFillTheLog(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	g := &Gateway{metrics: m, log: slog.New(slog.NewTextHandler(&out, nil)), o: Options{Now: func() time.Time { return now }}}
	event := knock.Event{
		Result: knock.Replayed, Source: netip.MustParseAddr("192.0.2.1"), Client: "alice", Service: "ssh", Method: "tcp-syn",
	}
	count := func() int { return strings.Count(out.String(), "knock refused") }
	for range 10_000 {
		g.knocked(event)
	}
	if n := count(); n != loglimit.PerSecond {
		t.Errorf("%d lines about ten thousand copies", n)
	}
	// What a client does is said, whatever strangers do meanwhile.
	g.knocked(knock.Event{Result: knock.OK, Client: "alice", Service: "ssh", Method: "udp"})
	if n := strings.Count(out.String(), "msg=knock "); n != 1 {
		t.Errorf("%d lines about a knock", n)
	}
	now = now.Add(time.Second)
	g.knocked(event)
	if want := "suppressed=9995"; count() != loglimit.PerSecond+1 || !strings.Contains(out.String(), want) {
		t.Errorf("a second later: %d lines, the last without %s", count(), want)
	}
	now = now.Add(-time.Hour) // the clock is set
	g.knocked(event)
	if n := count(); n != loglimit.PerSecond+2 {
		t.Errorf("%d lines after the clock was set back", n)
	}
}
