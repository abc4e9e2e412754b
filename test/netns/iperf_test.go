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
	busyPause = 100 * time.Millisecond
)

// serveIperf starts iperf3 on the upstream and returns the door before it.
func serveIperf(l *lab.Lab) door {
	l.Upstream.Start("iperf3", "--server", "--port", fmt.Sprint(iperfPort))
	return door{name: "bulk", mode: "knock", listen: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), iperfPort),
		upstream: netip.AddrPortFrom(l.Upstream.Addr4, iperfPort).String(),
		extra:    []string{"grant: {ttl: 30s, uses: 2}"}} // one for iperf3's control connection, one for its data
}

// measure knocks and runs iperf3 through the door, which says itself whether its connections stayed; there must be
// bytes in every second.
func (d door) measure(ctx context.Context, v lab.Visitor, seconds int, flags ...string) error {
	ctx, stop := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+serverTime)
	defer stop()
	flags = append([]string{"--client", d.listen.Addr().String(), "--port", fmt.Sprint(iperfPort), "--time", fmt.Sprint(seconds), "--json"}, flags...)
	var out string
	for {
		err := v.Knock(ctx, d.listen, nil)
		if err == nil {
			out, err = v.Host.Run(ctx, "iperf3", flags...)
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if !strings.Contains(out, "the server is busy") { // with the end of the run before
			break
		}
		time.Sleep(busyPause)
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
