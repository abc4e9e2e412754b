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
	lossyRounds  = 3
	lossySeconds = 10
	// cleanSeconds is how long the link is tried without its losses, to show
	// what else it can.
	cleanSeconds = 5
	lossyGoal    = 0.8

	linkDelay = 20 * time.Millisecond // each way
	linkLoss  = 0.001
	// linkRate is far above what one connection gets at that delay and loss
	// with the usual congestion control, some 15 Mb/s, and what the link's
	// process carries with ease, as the rows without losses show.
	linkRate  = 500e6
	linkQueue = 50 * time.Millisecond

	farDevice, nearDevice = "far0", "near0"

	// usual is the congestion control that Linux has by default.
	usual = "cubic"

	// linkDrain is how long the last packets of a run may be on their way.
	linkDrain = 500 * time.Millisecond
)

var (
	linkClient  = netip.MustParsePrefix("10.1.9.2/24")
	linkGateway = netip.MustParsePrefix("10.1.9.1/24")
)

// lossy is what a single stream gets out of a long link that loses some packets:
//
//	client --far0-- link: 20 ms, 0.1 % lost, each way --near0-- gateway: knockgw, HAProxy -- upstream
//
// It is about the TCP at the gateway's end: netstack's in the one case, the
// kernel's in the other.
func (b *bench) lossy(t *testing.T) {
	l := newLab(t)
	devices := []*os.File{l.Client.Device(farDevice, linkClient), l.Gateway.Device(nearDevice, linkGateway)}
	controls := []string{usual}
	if own := l.Gateway.Setting(congestionSetting); own != usual {
		controls = append(controls, own)
	}
	control := func(name string) {
		// A route's, because a namespace may not choose one that the machine
		// does not allow to all namespaces.
		l.Client.Route(lab.Protected4, farDevice, name)
		l.Client.Route(host(linkGateway), farDevice, name)
		l.Gateway.Route(host(linkClient), nearDevice, name)
	}
	control(usual)
	for _, h := range []*lab.Host{l.Client, l.Gateway} {
		// What the kernel has learnt from one connection it would use in the
		// next.
		h.Sysctl("ipv4/tcp_no_metrics_save", "1")
	}
	serveIperf(t, l)
	s := b.newSite(t, l)
	clean := load.Link{Wire: lab.Wire{Delay: linkDelay, Rate: linkRate, Queue: linkQueue}}
	link := start(t, l.Gateway, &clean, devices...)
	s.open(t, linkClient.Addr())
	stop[[2]lab.Carried](t, link)

	n := rounds(t, lossyRounds)
	p := b.report.part("lossy path", fmt.Sprintf("One stream of iperf3 over a link of %v and %.1f %% loss each way, %.0f Mb/s, a "+
		"queue of %v; %d interleaved rounds of %d s, both of a round with the same losses. Kernels use the congestion control "+
		"that is named: client and HAProxy, not knockgw.", linkDelay, 100*linkLoss, linkRate/1e6, linkQueue, n,
		lossySeconds), ours, theirs)
	over := func(r *row, c contestant, how load.Link, seconds int, flags ...string) {
		before := l.Client.Dropped(farDevice) + l.Gateway.Dropped(nearDevice)
		link := start(t, l.Gateway, &how, devices...)
		flags = append(flags, "--omit", "0") // slow start is a part of it
		r.add(c.name, iperf(t, l.Client, c.target, 1, seconds, flags...).rate/1e6)
		time.Sleep(linkDrain)
		for _, d := range stop[[2]lab.Carried](t, link) {
			if d.Overflowed > 0 {
				r.note("%s: the queue had no room for %d of %d packets in a round", c.name, d.Overflowed, d.Packets)
			}
		}
		if lost := l.Client.Dropped(farDevice) + l.Gateway.Dropped(nearDevice) - before; lost > 0 {
			r.note("%s: %d packets did not get to the link in a round", c.name, lost)
		}
	}
	contestants := []contestant{
		{ours, knockgwService, nil},
		{theirs, netip.AddrPortFrom(linkGateway.Addr(), haproxyPort), nil},
	}
	for round := range n {
		if round > 0 {
			controls = controls[:1] // the machine's own is shown, and the difference is not small
		}
		for _, name := range controls {
			control(name)
			for _, w := range ways() {
				r := p.row(w.name+", "+name, "Mb/s").wants(atLeast(lossyGoal))
				for _, c := range contestants {
					how := clean
					how.Loss, how.Seed = linkLoss, uint64(round)
					over(r, c, how, lossySeconds, w.flags...)
				}
			}
		}
	}
	control(usual)
	for _, w := range ways() {
		for _, c := range contestants {
			over(p.row(w.name+", without losses", "Mb/s"), c, clean, cleanSeconds, w.flags...)
		}
	}
}

// host is the network of an interface's own address alone.
func host(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()) }
