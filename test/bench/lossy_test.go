//go:build linux

package bench_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/bench/load"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	lossyRounds  = 5
	lossySeconds = 10
	// cleanSeconds is how long the link is tried without its losses, to show what else it can.
	cleanSeconds = 5
	lossyGoal    = 0.8

	linkDelay = 20 * time.Millisecond // each way
	linkLoss  = 0.001
	// linkRate is far above what one connection gets at that delay and loss, some 15 Mb/s, and well below what the
	// link's process can carry.
	linkRate  = 500e6
	linkQueue = 50 * time.Millisecond

	// linkDrain is how long the last packets of a run may be on their way.
	linkDrain = 500 * time.Millisecond
)

var (
	linkClient  = netip.MustParsePrefix("10.1.9.2/24")
	linkGateway = netip.MustParsePrefix("10.1.9.1/24")
)

// lossy is what a single stream gets out of a long link that loses packets now and then:
//
//	client --far0-- link: 20 ms, 0.1 % lost, each way --near0-- gateway: knockgw, HAProxy -- upstream
//
// It is about the TCP at the gateway's end: netstack's in the one case, the kernel's in the other.
func (b *bench) lossy(t *testing.T) {
	l := lab.New(t)
	devices := []*os.File{l.Client.Device("far0", linkClient), l.Gateway.Device("near0", linkGateway)}
	l.Client.Route(lab.Protected4, linkGateway.Addr())
	for _, h := range []*lab.Host{l.Client, l.Gateway} {
		// What the kernel has learnt from one connection it would use in the next.
		h.Sysctl("ipv4/tcp_no_metrics_save", "1")
	}
	serveIperf(t, l)
	s := b.newSite(t, l)
	clean := load.Link{Delay: linkDelay, Rate: linkRate, Queue: linkQueue}
	link := start(t, l.Gateway, &clean, devices...)
	s.open(t, linkClient.Addr())
	stop[[2]load.Carried](t, link)

	n := rounds(t, lossyRounds)
	p := b.report.part("lossy path", fmt.Sprintf("One stream of iperf3 over a link of %v and %.1f %% loss each way, %.0f Mb/s, a "+
		"queue of %v; %d rounds of %d s in turns, both of a round with the same losses.", linkDelay, 100*linkLoss,
		linkRate/1e6, linkQueue, n, lossySeconds), ours, theirs)
	over := func(r *row, c contestant, how load.Link, seconds int, flags ...string) {
		link := start(t, l.Gateway, &how, devices...)
		r.add(c.name, iperf(t, l.Client, c.target, 1, seconds, flags...).rate/1e6)
		time.Sleep(linkDrain)
		for _, d := range stop[[2]load.Carried](t, link) {
			if d.Overflowed > 0 && how.Loss > 0 {
				r.note("%s: the queue had no room for %d of %d packets in a round", c.name, d.Overflowed, d.Packets)
			}
		}
	}
	contestants := []contestant{
		{ours, knockgwService, nil},
		{theirs, netip.AddrPortFrom(linkGateway.Addr(), haproxyPort), nil},
	}
	for round := range n {
		for _, w := range ways() {
			for _, c := range contestants {
				how := clean
				how.Loss, how.Seed = linkLoss, uint64(round)
				over(p.row(w.name, "Mb/s").wants(atLeast(lossyGoal)), c, how, lossySeconds, w.flags...)
			}
		}
	}
	for _, w := range ways() {
		for _, c := range contestants {
			over(p.row(w.name+", without losses", "Mb/s"), c, clean, cleanSeconds, w.flags...)
		}
	}
}
