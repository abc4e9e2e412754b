//go:build linux

package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/bench/load"
)

const (
	latencyRounds = 10
	latencyTrips  = 5000 // of a round
	latencyWarmup = 500
)

// latency is how long a byte takes there and back when nothing else is going on.
func (b *bench) latency(t *testing.T) {
	l := newLab(t)
	start(t, l.Upstream, &load.Echo{Listen: upstreamOf(l)})
	s := b.newSite(t, l)
	s.open(t, l.Client.Addr4)
	n := rounds(t, latencyRounds)
	p := b.report.part("latency", fmt.Sprintf("One byte there and back over one connection, %d times in a round, %d rounds in "+
		"turns.", latencyTrips, n), ours, theirs, direct)
	middle := p.row("median", "µs").wants(atMost(1.4))
	late := p.row("p99", "µs").wants(atMost(2))
	for range n {
		for _, c := range s.contestants() {
			trips := generate[load.Trips](t, l.Client, &load.RoundTrips{Target: c.target, Count: latencyTrips,
				Warmup: latencyWarmup})
			middle.add(c.name, microseconds(trips.Quantile(0.5)))
			late.add(c.name, microseconds(trips.Quantile(0.99)))
		}
	}
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
