//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	refusedRounds = 12
	refusedTime   = 400 * time.Millisecond // of a round: short, so that all of a turn meet the same machine
	refusedDrain  = 100 * time.Millisecond
	refusedRatio  = 1.2

	// What is decided is measured slowly: all of it, and nothing else to speak
	// of.
	decidedRounds = 3
	decidedTime   = 2 * time.Second
	decidedMost   = 2000    // knocks a second
	decidedTries  = 500_000 // HMACs a second: half of what the gate allows for attackers
	perClient     = 250     // ns
)

// The gateways of the part, by the number of their clients.
const (
	one  = "1 client"
	some = "100 clients"
	many = "10,000 clients"
)

// A kind is one of the kinds of packets that attackers send.
type kind struct {
	name string
	junk lab.Junk
	free bool // of the ratio: its cost is bounded by a budget instead
}

func kinds() []kind {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(knockgwService.Addr(), port) }
	return []kind{
		{name: "SYN with Timestamps, to a service that takes tcp-syn", junk: lab.Junk{Form: lab.JunkSYN, To: at(synPort)}},
		{name: "SYN with Timestamps, to a service that takes tcp-syn-seq", junk: lab.Junk{Form: lab.JunkSYN, To: at(seqPort)}},
		{name: "SYN with Timestamps, to any port (tcp-syn-seq, legacy)", junk: lab.Junk{Form: lab.JunkSYN, To: at(0)}},
		{name: "ACK of no connection", junk: lab.Junk{Form: lab.JunkACK, To: at(synPort)}},
		{name: "datagram to a closed port", junk: lab.Junk{Form: lab.JunkDatagram, To: at(9)}},
		{name: "datagram of 128 bytes, to the knock port", junk: lab.Junk{Form: lab.JunkV2, To: at(knockPort)}},
		{name: "fragment", junk: lab.Junk{Form: lab.JunkFragment, To: at(knockPort)}},
		{name: "ill-formed packet", junk: lab.Junk{Form: lab.JunkIllFormed, To: at(synPort)}},
		{name: "plausible knock v1", junk: lab.Junk{Form: lab.JunkV1, To: at(knockPort)}, free: true},
	}
}

// refused is what the gateway's process pays for an attacker's packet, the
// reading included, with one client and with many.
func (b *bench) refused(t *testing.T) {
	gateways := []refusing{newRefusing(t, b.build, one, 1), newRefusing(t, b.build, some, 100),
		newRefusing(t, b.build, many, 10_000)}
	n := rounds(t, refusedRounds)
	p := b.report.part("refused packets", fmt.Sprintf("Processor time of knockgw's process for each packet, user and system, with tun.filter: off; "+
		"as many packets as the machine carries, %d rounds of %v in turns. The last row is of knocks that were decided, at a "+
		"rate that the gate decides all of: what they cost more than datagrams to a closed port at the same rate, divided "+
		"by the clients.", n, refusedTime), one, some, many)
	p.ratio = [2]int{2, 0}
	for round := range n {
		for _, k := range kinds() {
			r := p.row(k.name, "ns")
			if !k.free {
				r.wants(atMost(refusedRatio))
			}
			for turn := range gateways {
				g := gateways[(turn+round)%len(gateways)] // A B C, B C A: no gateway gains by its position
				r.add(g.name, g.refuse(t, k.junk))
			}
		}
	}
	decided := p.row("plausible knock v1 that is decided, for each client", "ns").wants(atMost(perClient).of(many))
	for range min(n, decidedRounds) {
		for _, g := range gateways[1:] { // of one client, all is lost in what the packet costs
			decided.add(g.name, g.decide(t))
		}
	}
}

// refusing is a gateway with so many clients that admits no client.
type refusing struct {
	name    string
	clients int
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

func newRefusing(t *testing.T, build *lab.Build, name string, clients int) refusing {
	t.Helper()
	l := lab.New(t)
	l.AnySource()
	l.TUN = filterOff
	text := fmt.Sprintf("knock: {udp_port: %d, sequence: {legacy: true}}\n", knockPort) + manyClients(clients) + "services:\n"
	for i, methods := range []string{"tcp-syn", "tcp-syn-seq", "udp-v2", "udp"} {
		at := netip.AddrPortFrom(knockgwService.Addr(), uint16(synPort+i))
		text += service(methods, at, "10.1.3.2:9", methods)
	}
	return refusing{name, clients, l, l.NewSite(t, build, text).Start(t)}
}

// refuse floods the gateway for a round. It returns nanoseconds for each packet
// that the gateway has read.
func (r refusing) refuse(t *testing.T, junk lab.Junk) float64 {
	t.Helper()
	before := r.count("knockgw_packets_total{")
	spent := r.flooded(t, junk, 0, refusedTime)
	return float64(spent) / (r.count("knockgw_packets_total{") - before)
}

// decide sends knocks slowly. It returns nanoseconds for each that was decided
// and each client.
func (r refusing) decide(t *testing.T) float64 {
	t.Helper()
	rate := min(decidedMost, decidedTries/r.clients)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(knockgwService.Addr(), port) }
	reading := r.flooded(t, lab.Junk{Form: lab.JunkDatagram, To: at(9)}, rate, decidedTime)
	before := r.count("knockgw_knocks_total{")
	deciding := r.flooded(t, lab.Junk{Form: lab.JunkV1, To: at(knockPort)}, rate, decidedTime)
	decided := r.count("knockgw_knocks_total{") - before
	if decided == 0 {
		t.Fatalf("%s: no knock was decided", r.name)
	}
	return float64(deciding-reading) / decided / float64(r.clients)
}

// flooded is the processor time that the gateway takes while it is flooded, and
// until what waits is read.
func (r refusing) flooded(t *testing.T, junk lab.Junk, rate int, d time.Duration) time.Duration {
	t.Helper()
	before := r.gateway.CPU()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if _, err := r.l.Attacker.Flood(ctx, junk, rate); err != nil {
		t.Fatal(err)
	}
	time.Sleep(refusedDrain)
	return r.gateway.CPU() - before
}

// count is the sum of a metric's samples.
func (r refusing) count(metric string) float64 {
	var n float64
	for sample, v := range r.gateway.Metrics() {
		if strings.HasPrefix(sample, metric) {
			n += v
		}
	}
	return n
}
