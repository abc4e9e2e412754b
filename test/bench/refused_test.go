//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	refusedRounds  = 24
	refusedTime    = 400 * time.Millisecond // of a round: short, so that the two of a pair meet the same machine
	refusedDrain   = 100 * time.Millisecond
	refusedClients = 10_000
	refusedRatio   = 1.2
)

// TestCPUPerRefusedPacket is about what the gateway's process pays for a stranger's packet, the reading included,
// with one client and with many.
func TestCPUPerRefusedPacket(t *testing.T) {
	asked(t)
	build := program(t)
	gateways := []refusing{newRefusing(t, build, 1), newRefusing(t, build, refusedClients)}
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), port) }
	type row struct {
		name string
		junk lab.Junk
		free bool // of the ratio: its cost is bounded by a budget instead
		cost [2][]float64
		rate [2][]float64
	}
	rows := []row{
		{name: "SYN with Timestamps, to a service that takes tcp-syn", junk: lab.Junk{Form: lab.JunkSYN, To: at(synPort)}},
		{name: "SYN with Timestamps, to a service that takes tcp-syn-seq", junk: lab.Junk{Form: lab.JunkSYN, To: at(seqPort)}},
		{name: "SYN with Timestamps, to any port (tcp-syn-seq, legacy)", junk: lab.Junk{Form: lab.JunkSYN, To: at(0)}},
		{name: "datagram of 128 bytes, to the knock port", junk: lab.Junk{Form: lab.JunkV2, To: at(knockPort)}},
		{name: "ACK of no connection", junk: lab.Junk{Form: lab.JunkACK, To: at(synPort)}},
		{name: "datagram to a closed port", junk: lab.Junk{Form: lab.JunkDatagram, To: at(9)}},
		{name: "plausible knock v1", junk: lab.Junk{Form: lab.JunkV1, To: at(knockPort)}, free: true},
	}
	for round := range refusedRounds {
		for i := range rows {
			for turn := range gateways {
				g := (turn + round) % len(gateways) // A B, B A, A B: whoever comes second gains nothing by it
				cost, rate := gateways[g].refuse(t, rows[i].junk)
				rows[i].cost[g] = append(rows[i].cost[g], cost)
				rows[i].rate[g] = append(rows[i].rate[g], rate)
			}
		}
	}
	fmt.Printf("\nProcessor time of the gateway's process for each refused packet, user and system, in ns; medians of %d"+
		" rounds of %v in turns, as many packets as the machine carries; the ratio is the median of the rounds';"+
		" %d CPUs.\n\n", refusedRounds, refusedTime, runtime.NumCPU())
	fmt.Printf("| packet | 1 client | %d clients | ratio | half of the ratios | packets/s |\n", refusedClients)
	fmt.Println("|---|---:|---:|---:|---|---:|")
	for _, r := range rows {
		ratios := make([]float64, refusedRounds)
		for i := range ratios {
			ratios[i] = r.cost[1][i] / r.cost[0][i]
		}
		slices.Sort(ratios)
		ratio := median(ratios)
		fmt.Printf("| %s | %.0f | %.0f | %.2f | %.2f to %.2f | %.0f |\n", r.name, median(r.cost[0]), median(r.cost[1]), ratio,
			ratios[refusedRounds/4], ratios[refusedRounds*3/4], median(r.rate[1]))
		if ratio > refusedRatio && !r.free {
			t.Errorf("%s: %.2f times as dear with %d clients", r.name, ratio, refusedClients)
		}
	}
	fmt.Println()
}

// refusing is a gateway with so many clients and nobody let in.
type refusing struct {
	l       *lab.Lab
	gateway *lab.Gateway
}

// The ports of the services.
const (
	synPort = 22 + iota
	seqPort
	v2Port
	udpPort
)

func newRefusing(t *testing.T, build *lab.Build, clients int) refusing {
	t.Helper()
	l := lab.New(t)
	l.AnySource()
	text := fmt.Sprintf("knock: {udp_port: %d, sequence: {legacy: true}}\n", knockPort) + manyClients(clients) + "services:\n"
	for i, methods := range []string{"tcp-syn", "tcp-syn-seq", "udp-v2", "udp"} {
		at := netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), uint16(synPort+i))
		text += service(methods, at, "10.1.3.2:9", methods)
	}
	return refusing{l, l.NewSite(t, build, text).Start(t)}
}

// refuse floods the gateway for a round. It returns nanoseconds for each packet that the gateway has read, and
// their rate.
func (r refusing) refuse(t *testing.T, junk lab.Junk) (cost, rate float64) {
	t.Helper()
	before, spent, began := r.packets(), r.gateway.CPU(), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), refusedTime)
	defer cancel()
	if _, err := r.l.Stranger.Flood(ctx, junk, 0); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	time.Sleep(refusedDrain)
	spent = r.gateway.CPU() - spent
	n := r.packets() - before
	return float64(spent) / n, n / took.Seconds()
}

// packets is how many packets the gateway has read, whatever became of them.
func (r refusing) packets() float64 {
	var n float64
	for sample, v := range r.gateway.Metrics() {
		if strings.HasPrefix(sample, "knockgw_packets_total{") {
			n += v
		}
	}
	return n
}
