//go:build linux

package netns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	iperfPort = 5201
	// iperfReady is what iperf3's server says once it listens, which it prints
	// again for each run.
	iperfReady = "Server listening on"
)

// An iperf is a server of iperf3's behind an endpoint.
type iperf struct {
	endpoint

	server *lab.Process
	runs   int
}

// serveIperf starts iperf3 on the upstream.
func serveIperf(l *lab.Lab) *iperf {
	return &iperf{
		server: l.Upstream.Start("iperf3", "--server", "--port", fmt.Sprint(iperfPort), "--forceflush"),
		endpoint: endpoint{name: "bulk", mode: "knock", listen: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), iperfPort),
			upstream: netip.AddrPortFrom(l.Upstream.Addr4, iperfPort).String(),
			extra:    []string{"grant: {ttl: 30s, uses: 2}"}}, // one for iperf3's control connection, one for its data
	}
}

// measure knocks and runs iperf3 through the endpoint, which says itself
// whether its connections stayed; there must be bytes in every second. Runs are
// made one after the other.
func (p *iperf) measure(ctx context.Context, v lab.Peer, seconds int, flags ...string) error {
	ctx, stop := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+serverTime)
	defer stop()
	p.runs++
	if err := p.server.WaitLog(ctx, func(log string) bool { return strings.Count(log, iperfReady) >= p.runs }); err != nil {
		return err
	}
	if err := v.Knock(ctx, p.listen, nil); err != nil {
		return err
	}
	flags = append([]string{"--client", p.listen.Addr().String(), "--port", fmt.Sprint(iperfPort), "--time", fmt.Sprint(seconds), "--json"}, flags...)
	out, err := v.Host.Run(ctx, "iperf3", flags...)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var report struct {
		Intervals []struct {
			Sum struct{ Bytes float64 }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return fmt.Errorf("read iperf3's report: %w\n%s", err, out)
	}
	if len(report.Intervals) < seconds {
		return fmt.Errorf("iperf3 sent for %d seconds of %d\n%s", len(report.Intervals), seconds, out)
	}
	for i, second := range report.Intervals {
		if second.Sum.Bytes == 0 {
			return fmt.Errorf("iperf3 sent nothing in second %d", i)
		}
	}
	return nil
}
