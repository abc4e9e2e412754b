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
	floodRounds = 3
	floodAlone  = 2 * time.Second

	gated     = "flood to the gate"
	blackhole = "flood to a blackhole"
	quiet     = "no flood"

	floodKept    = 0.8 // of a stream's throughput
	floodPercent = 2   // of a core
)

// blackholed is a network that the gateway's kernel drops the packets for.
var blackholed = netip.MustParsePrefix("10.99.0.0/24")

// flood is what an admitted stream keeps while attackers send as much as they
// can, and what that costs the process.
func (b *bench) flood(t *testing.T) {
	l := newLab(t)
	l.AnySource()
	l.Gateway.Blackhole(blackholed)
	serveIperf(t, l)
	s := b.newSite(t, l)
	s.open(t, l.Client.Addr4)
	n := rounds(t, floodRounds)
	p := b.report.part("flood", fmt.Sprintf("One admitted stream of iperf3, up, while an attacker sends as fast as one processor "+
		"can, to the protected address or to one that the gateway's kernel drops; %d interleaved rounds of %d s. The process's "+
		"time is that of %v without the stream; what the filter in the kernel takes is in neither, but in the stream's loss.", n, streamSeconds, floodAlone), gated, blackhole, quiet)
	hole := blackholed.Addr().Next()
	for range n {
		for _, f := range []struct {
			name string
			form lab.Form
			port uint16
		}{
			{"SYNs to the service", lab.JunkSYN, servicePort},
			{"datagrams, to no knock port", lab.JunkDatagram, 9},
			{"ill-formed packets", lab.JunkIllFormed, servicePort},
		} {
			stream := p.row("stream, "+f.name, "Gb/s").wants(atLeast(floodKept))
			sent := p.row("packets sent, "+f.name, "1000/s")
			spent := p.row("process without the stream, "+f.name, "% of a core").wants(atMost(floodPercent).of(gated))
			for _, to := range []struct {
				name string
				addr netip.Addr
			}{{gated, knockgwService.Addr()}, {blackhole, hole}} {
				flood := start(t, l.Attacker, &load.Flood{Junk: lab.Junk{Form: f.form, To: netip.AddrPortFrom(to.addr, f.port)}})
				if to.name == gated {
					spent.add(to.name, busy(s.gateway, floodAlone))
				}
				stream.add(to.name, iperf(t, l.Client, knockgwService, 1, streamSeconds).rate/1e9)
				sent.add(to.name, stop[load.Flooded](t, flood).Rate()/1e3)
			}
			stream.add(quiet, iperf(t, l.Client, knockgwService, 1, streamSeconds).rate/1e9)
		}
	}
}

// busy is how much of a core the gateway takes in a time, in percent.
func busy(g *lab.Gateway, d time.Duration) float64 {
	began, before := time.Now(), g.CPU()
	time.Sleep(d)
	return 100 * float64(g.CPU()-before) / float64(time.Since(began))
}
