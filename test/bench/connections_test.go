//go:build linux

package bench_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/bench/load"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	connectionRounds  = 5
	connectionTime    = 3 * time.Second // of a round
	connectionWorkers = 8

	knocking     = "knockgw, a knock each"
	rateRatio    = 0.8
	lastingRatio = 0.8 // what must be left of the first round's ratio in the last
)

// connections is how many short connections there are in a second, and whether
// they get fewer.
func (b *bench) connections(t *testing.T) {
	l := newLab(t)
	// Each worker has an address of its own: ports that wait for their last
	// segments do not run out, and a known source may knock 1,024 times a
	// second.
	var sources []netip.Addr
	for i := range connectionWorkers {
		sources = append(sources, netip.AddrFrom4([4]byte{10, 1, 1, byte(10 + i)}))
	}
	l.Client.AddAddrs(sources...)
	// The proxies connect from one address to one port, so that ports have to
	// be used again after a second instead of a minute, and as many as there
	// are. It is the same kernel for both.
	for _, h := range []*lab.Host{l.Client, l.Gateway} {
		h.Sysctl("ipv4/ip_local_port_range", "10000 65000")
		h.Sysctl("ipv4/tcp_tw_reuse", "1")
	}
	start(t, l.Upstream, &load.Echo{Listen: upstreamOf(l)})
	s := b.newSite(t, l)
	n := rounds(t, connectionRounds)
	p := b.report.part("connections", fmt.Sprintf("Connect, %d bytes, %d bytes back, close: %d workers, one after the other "+
		"each, %d rounds of %v in turns.", load.RequestSize, load.RequestSize, connectionWorkers, n, connectionTime),
		ours, theirs, knocking)
	made := p.row("connections", "1/s").wants(atLeast(rateRatio))
	for range n {
		for _, c := range []struct {
			name   string
			target netip.AddrPort
			knock  *load.Knock
		}{{ours, knockgwService, nil}, {theirs, haproxyService, nil}, {knocking, onceService, knock()}} {
			if c.name == ours {
				s.open(t, sources...) // the uses of the last round's knock may be over
			}
			m := generate[load.Made](t, l.Client, &load.Connections{Target: c.target, Sources: sources,
				For: connectionTime, Knock: c.knock})
			made.add(c.name, m.Rate())
			if m.Failed > 0 {
				made.note("%s: %d of %d failed in a round: %s", c.name, m.Failed, m.Done+m.Failed, m.Error)
			}
		}
	}
	// The ratio of this row is that of the last round to that of the first:
	// what slowed both down is not in it.
	lasting := p.row("last round's rate to the first's", "ratio").wants(atLeast(lastingRatio))
	for i, rates := range made.Rounds {
		lasting.add(p.Columns[i], rates[len(rates)-1]/rates[0])
	}
}
