//go:build linux

package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	throughputRounds = 4
	streamSeconds    = 3
	warmupSeconds    = 1 // not counted: the windows open in it
	streamSlack      = 30 * time.Second
	manyStreams      = 8

	gibibyte = 1 << 30
)

// A way is a direction of streams, and what is wanted of them.
type way struct {
	name  string
	flags []string
	goals map[int]*goal // of the throughput, by the number of streams
}

func ways() []way {
	return []way{
		{"up", nil, map[int]*goal{1: atLeast(1.25), manyStreams: atLeast(1)}},
		{"down", []string{"--reverse"}, map[int]*goal{1: atLeast(1.1), manyStreams: atLeast(1)}},
	}
}

// throughput is what iperf3 gets through, and what each proxy pays for it.
func (b *bench) throughput(t *testing.T) {
	l := newLab(t)
	serveIperf(t, l)
	s := b.newSite(t, l)
	s.open(t, l.Client.Addr4)
	n := rounds(t, throughputRounds)
	p := b.report.part("throughput", fmt.Sprintf("iperf3 from client to upstream (up) and back (down), %d rounds of %d s in "+
		"turns after %d s that only the processor time counts. CPU is the proxy's process, all threads.", n, streamSeconds,
		warmupSeconds), ours, theirs, direct)
	for range n {
		for _, w := range ways() {
			for _, streams := range []int{1, manyStreams} {
				for _, c := range s.contestants() {
					measured(p, w, streams, c, func() flow {
						return iperf(t, l.Client, c.target, streams, streamSeconds, w.flags...)
					})
				}
			}
		}
	}
}

// measured notes one run of iperf3 in the rows of its kind.
func measured(p *part, w way, streams int, c contestant, run func() flow) {
	name := fmt.Sprintf("%d stream %s", streams, w.name)
	if streams > 1 {
		name = fmt.Sprintf("%d streams %s", streams, w.name)
	}
	rate := p.row(name, "Gb/s").wants(w.goals[streams])
	if c.proxy == nil {
		rate.add(c.name, run().rate/1e9)
		return
	}
	user, system := c.proxy.Times()
	f := run()
	userAfter, systemAfter := c.proxy.Times()
	rate.add(c.name, f.rate/1e9)
	perGiB := func(d time.Duration) float64 { return d.Seconds() / (f.bytes / gibibyte) }
	p.row(name+": CPU", "s/GiB").wants(atMost(1)).add(c.name, perGiB(userAfter-user+systemAfter-system))
	p.row(name+": CPU, user", "s/GiB").add(c.name, perGiB(userAfter-user))
	p.row(name+": CPU, system", "s/GiB").add(c.name, perGiB(systemAfter-system))
}

// flow is what a run of iperf3 has moved.
type flow struct {
	rate  float64 // bits a second that arrived, without the warm-up
	bytes float64 // that the client has sent or received in all, the warm-up included
}

// serveIperf starts iperf3's server on the upstream.
func serveIperf(t *testing.T, l *lab.Lab) {
	t.Helper()
	l.Upstream.Start("iperf3", "--server", "--port", strconv.Itoa(servicePort))
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	for {
		conn, err := l.Client.Dial(ctx, "tcp", upstreamOf(l).String())
		if err == nil {
			_ = conn.Close()
			time.Sleep(iperfCloseDelay)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("iperf3 does not answer: %v", err)
		case <-time.After(startPoll):
		}
	}
}

// iperf moves data for some seconds.
func iperf(t *testing.T, from *lab.Host, target netip.AddrPort, streams, seconds int, flags ...string) flow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second+streamSlack)
	defer cancel()
	args := append([]string{"--client", target.Addr().String(), "--port", strconv.Itoa(int(target.Port())),
		"--parallel", strconv.Itoa(streams), "--time", strconv.Itoa(seconds), "--omit", strconv.Itoa(warmupSeconds),
		"--json"}, flags...)
	out, err := from.Run(ctx, "iperf3", args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var result struct {
		Intervals []struct {
			Sum struct {
				Bytes float64 `json:"bytes"`
			} `json:"sum"`
		} `json:"intervals"`
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("read iperf3's report: %v\n%s", err, out)
	}
	f := flow{rate: result.End.Received.BitsPerSecond}
	for _, i := range result.Intervals {
		f.bytes += i.Sum.Bytes
	}
	return f
}
