//go:build linux

package bench_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	loadClients = 1000
	loadRate    = 5000 // junk datagrams a second, of all sources together
	loadSources = 16
	loadTries   = 30                     // of a known client, and twice as many of new ones
	loadPause   = 100 * time.Millisecond // between two tries
	loadSettle  = 2 * time.Second        // the token buckets are full when the junk begins, and soon empty
	// loadPatience is how long a client waits. It sends one knock, so that a
	// second SYN would find no more than the first.
	loadPatience = 900 * time.Millisecond
	loadMedian   = 50 // ms
)

// tries is what became of knocking and connecting again and again.
type tries struct {
	took   []time.Duration // from before the knock to after the handshake, of those that succeeded
	failed int
}

// quantile is the time in milliseconds in which a share q of those that
// succeeded did.
func (r tries) quantile(q float64) float64 {
	s := slices.Sorted(slices.Values(r.took))
	return float64(s[min(len(s)-1, int(q*float64(len(s))))]) / float64(time.Millisecond)
}

// A siege is junk that attackers send, and what becomes of a client meanwhile.
type siege struct {
	name           string
	sources        []netip.Addr
	rate           int
	known, new, v2 tries
}

const (
	knownAddress = "known address"
	newAddress   = "new address each time"
	newByV2      = "new address each time, by udp-v2"
)

// junk is about a client among a thousand who knocks with a v1 datagram and
// connects while attackers send what could be one.
func (b *bench) junk(t *testing.T) {
	var same, apart []netip.Addr
	for i := range loadSources {
		same = append(same, netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}))
		apart = append(apart, netip.AddrFrom4([4]byte{10, 9, byte(i), 1}))
	}
	p := b.report.part("junk", fmt.Sprintf("From a knock (v1, and udp-v2 where it says so) to the established connection, "+
		"%d tries of a client among %d, in rotation, while attackers send plausible knocks v1.", loadTries, loadClients),
		knownAddress, newAddress, newByV2)
	p.ratio = [2]int{} // different things
	for _, s := range []siege{
		{name: "no junk"},
		{name: fmt.Sprintf("%d addresses of one /24", loadSources), sources: same, rate: loadRate},
		{name: fmt.Sprintf("%d addresses of %d networks", loadSources, loadSources), sources: apart, rate: loadRate},
		{name: "forged addresses at random", rate: loadRate},
		{name: "forged addresses at random, ten times as much", rate: 10 * loadRate},
	} {
		// A gateway of its own: no source is known from the earlier runs.
		d := newAttackedGateway(t, b.build)
		sent := s.lay(t, d)
		if s.rate > 0 {
			p.row(s.name+": in", "%").note("%.0f datagrams a second; %d packets in all were lost on the way to the "+
				"process", sent, d.l.Gateway.Dropped(lab.Tunnel)-d.filtered())
		}
		d.gateway.Kill()
		s.report(p)
	}
}

// filtered is how many packets the filter has refused.
func (d attackedGateway) filtered() int {
	n := 0.0
	for sample, v := range d.gateway.Metrics() {
		if strings.HasPrefix(sample, "knockgw_filter_dropped_packets_total{") {
			n += v
		}
	}
	return int(n)
}

// lay lays the siege, until the client has tried often enough. It returns how
// many datagrams a second there were.
func (s *siege) lay(t *testing.T, d attackedGateway) float64 {
	t.Helper()
	first := knocker(d.l.Client, loadClients-1) // whom a search through all finds last
	if _, err := d.try(t.Context(), first); err != nil {
		t.Fatalf("without junk: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var flooding sync.WaitGroup
	sent, began := 0, time.Now()
	if s.rate > 0 {
		flooding.Go(func() {
			junk := lab.Junk{Form: lab.JunkV1, Sources: s.sources, To: netip.AddrPortFrom(d.service.Addr(), knockPort)}
			var err error
			if sent, err = d.l.Attacker.Flood(ctx, junk, s.rate); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(loadSettle)
	}
	for n := range loadTries {
		s.known.note(d.try(t.Context(), first))
		time.Sleep(loadPause)
		for _, from := range d.newcomers[2*n : 2*n+2] {
			newcomer := knocker(d.l.Client, loadClients/2)
			newcomer.From = from
			try, result := d.tryV2, &s.v2
			if n%2 == 0 {
				try, result = d.try, &s.new
			}
			result.note(try(t.Context(), newcomer))
			time.Sleep(loadPause)
		}
	}
	stop()
	flooding.Wait()
	return float64(sent) / time.Since(began).Seconds()
}

// report notes what became of the client.
func (s *siege) report(p *part) {
	in := p.row(s.name+": in", "%").wants(atLeast(100).of(knownAddress))
	middle := p.row(s.name+": median", "ms").wants(atMost(loadMedian).of(knownAddress))
	late := p.row(s.name+": p90", "ms")
	for _, who := range []struct {
		name string
		tries
	}{{knownAddress, s.known}, {newAddress, s.new}, {newByV2, s.v2}} {
		in.add(who.name, 100*float64(len(who.took))/float64(len(who.took)+who.failed))
		if len(who.took) > 0 {
			middle.add(who.name, who.quantile(0.5))
			late.add(who.name, who.quantile(0.9))
		}
	}
}

func (r *tries) note(took time.Duration, err error) {
	if err != nil {
		r.failed++
		return
	}
	r.took = append(r.took, took)
}

// attackedGateway is a gateway with many clients, and unknown addresses.
type attackedGateway struct {
	l         *lab.Lab
	gateway   *lab.Gateway
	service   netip.AddrPort
	newcomers []netip.Addr
}

func newAttackedGateway(t *testing.T, build *lab.Build) attackedGateway {
	t.Helper()
	d := attackedGateway{l: lab.New(t), service: netip.MustParseAddrPort("10.77.0.1:22")}
	d.l.AnySource()
	for i := range 2 * loadTries {
		d.newcomers = append(d.newcomers, netip.AddrFrom4([4]byte{10, 1, 1, byte(100 + i)}))
	}
	d.l.Client.AddAddrs(d.newcomers...)
	s := d.l.Upstream.ServeLines(netip.AddrPortFrom(d.l.Upstream.Addr4, 7000).String())
	d.gateway = d.l.NewSite(t, build, fmt.Sprintf("knock: {udp_port: %d}\n", knockPort)+manyClients(loadClients)+
		"services:\n"+service("ssh", d.service, s.Addr, "udp, udp-v2")).Start(t)
	return d
}

// try knocks by udp and connects, authenticates too, and returns how long it
// took until the connection was there.
func (d attackedGateway) try(ctx context.Context, v lab.Peer) (time.Duration, error) {
	session := lab.NewSession()
	knock, err := v.KnockFor(d.service, session)
	if err != nil {
		return 0, err
	}
	return d.tryWith(ctx, v, session, knock)
}

// tryV2 is try by udp-v2.
func (d attackedGateway) tryV2(ctx context.Context, v lab.Peer) (time.Duration, error) {
	id, err := protocol.NewClient(v.ID, v.Secret)
	if err != nil {
		return 0, err
	}
	now, session := time.Now(), lab.NewSession()
	m := protocol.KnockV2Message{Time: now.UnixMilli(), SessionID: [16]byte(session)}
	slot := protocol.Slot(now, client.DefaultSlot)
	knock, err := protocol.AppendKnockV2(nil, id, "", d.service.Port(), slot, &m, rand.Reader)
	if err != nil {
		return 0, err
	}
	return d.tryWith(ctx, v, session, knock)
}

func (d attackedGateway) tryWith(ctx context.Context, v lab.Peer, session, knock []byte) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadPatience)
	defer cancel()
	auth, err := v.AuthFor(d.service, session)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := v.Send(ctx, d.service, knock); err != nil {
		return 0, err
	}
	conn, err := v.Dial(ctx, d.service)
	if err != nil {
		return 0, err
	}
	took = time.Since(began)
	if err = conn.SetDeadline(time.Now().Add(loadPatience)); err == nil {
		_, err = conn.Write(append(auth, "hello\n"...))
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // the upstream's answer has begun
	}
	return took, errors.Join(err, conn.Close())
}
