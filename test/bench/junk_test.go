//go:build linux

package bench_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	loadTries   = 50                     // of a known client, and twice as many of new ones
	loadPause   = 100 * time.Millisecond // between two tries
	loadSettle  = 2 * time.Second        // the purses are full when the junk begins, and soon empty
	// loadPatience is how long a client waits. It sends one knock, so that a second SYN would find no more than
	// the first.
	loadPatience = 900 * time.Millisecond
	loadMedian   = 50 * time.Millisecond
)

// tries is what became of knocking and connecting again and again.
type tries struct {
	took   []time.Duration // from before the knock to after the handshake, of those that succeeded
	failed int
}

func (r tries) String() string {
	share := fmt.Sprintf("%d of %d", len(r.took), len(r.took)+r.failed)
	if len(r.took) == 0 {
		return share + " | | | |"
	}
	s := slices.Sorted(slices.Values(r.took))
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
	return fmt.Sprintf("%s | %s | %s | %s |", share, ms(s[len(s)/2]), ms(s[len(s)*9/10]), ms(s[len(s)-1]))
}

// TestKnockUnderJunk is about a client among a thousand who knocks with a v1 datagram and connects while
// strangers send what could be one.
func TestKnockUnderJunk(t *testing.T) {
	asked(t)
	build := program(t)
	var same, apart []netip.Addr
	for i := range loadSources {
		same = append(same, netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}))
		apart = append(apart, netip.AddrFrom4([4]byte{10, 9, byte(i), 1}))
	}
	type row struct {
		name           string
		sources        []netip.Addr
		rate           int
		known, new, v2 tries
		sent           float64 // junk datagrams a second
		dropped        int     // packets that the machine did not get to the gateway, anybody's
	}
	rows := []row{
		{name: "none"},
		{name: fmt.Sprintf("of %d addresses of one /24", loadSources), sources: same, rate: loadRate},
		{name: fmt.Sprintf("of %d addresses of %d networks", loadSources, loadSources), sources: apart, rate: loadRate},
		{name: "of forged addresses at random", rate: loadRate},
		{name: "of forged addresses at random", rate: 10 * loadRate},
	}
	for i := range rows {
		r := &rows[i]
		// A gateway of its own: nobody is known from the row before.
		d := newBesieged(t, build)
		first := knocker(d.l.Client, loadClients-1) // whom a search through all finds last
		if _, err := d.try(t.Context(), first); err != nil {
			t.Fatalf("without junk: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var flooding sync.WaitGroup
		sent, began := 0, time.Now()
		if r.rate > 0 {
			flooding.Go(func() {
				junk := lab.Junk{Form: lab.JunkV1, Sources: r.sources, To: netip.AddrPortFrom(d.service.Addr(), knockPort)}
				var err error
				if sent, err = d.l.Stranger.Flood(ctx, junk, r.rate); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(loadSettle)
		}
		for n := range loadTries {
			r.known.note(d.try(t.Context(), first))
			time.Sleep(loadPause)
			for _, from := range d.newcomers[2*n : 2*n+2] {
				newcomer := knocker(d.l.Client, loadClients/2)
				newcomer.From = from
				try, result := d.tryV2, &r.v2
				if n%2 == 0 {
					try, result = d.try, &r.new
				}
				result.note(try(t.Context(), newcomer))
				time.Sleep(loadPause)
			}
		}
		stop()
		flooding.Wait()
		r.sent = float64(sent) / time.Since(began).Seconds()
		r.dropped = d.l.Gateway.Dropped(lab.Tunnel)
		d.gateway.Kill()
	}

	fmt.Printf("\nFrom knock (v1) to established connection, ms; %d clients, tries in turns. Lost is what the machine "+
		"had no time to hand to the gateway, of everybody's packets.\n\n", loadClients)
	fmt.Println("| junk | /s | lost | client | in | median | p90 | worst |")
	fmt.Println("|---|---:|---:|---|---:|---:|---:|---:|")
	for _, r := range rows {
		for _, who := range []struct {
			name string
			tries
		}{{"known address", r.known}, {"new address each time", r.new}, {"new address each time, by udp-v2", r.v2}} {
			fmt.Printf("| %s | %.0f | %d | %s | %v\n", r.name, r.sent, r.dropped, who.name, who.tries)
		}
	}
	fmt.Println()
	for _, r := range rows {
		if n := r.known.failed + r.v2.failed; n > 0 {
			t.Errorf("junk %s: %d knocks of known clients or by udp-v2 did not get in; %d packets were lost", r.name, n, r.dropped)
			continue
		}
		if m := slices.Sorted(slices.Values(r.known.took))[loadTries/2]; m > loadMedian {
			t.Errorf("junk %s: a known client waits %v, more than %v", r.name, m, loadMedian)
		}
		// A newcomer shares the purse of one of these sources once in some hundred times.
		if r.sources != nil && r.new.failed > loadTries/10 {
			t.Errorf("junk %s: %d new clients stayed outside", r.name, r.new.failed)
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

// besieged is a gateway with many clients, and addresses that it has not heard of.
type besieged struct {
	l         *lab.Lab
	gateway   *lab.Gateway
	service   netip.AddrPort
	newcomers []netip.Addr
}

func newBesieged(t *testing.T, build *lab.Build) besieged {
	t.Helper()
	d := besieged{l: lab.New(t), service: netip.MustParseAddrPort("10.77.0.1:22")}
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

// try knocks by udp and connects, authenticates too, and returns how long it took until the connection was there.
func (d besieged) try(ctx context.Context, v lab.Visitor) (time.Duration, error) {
	session := lab.NewSession()
	knock, err := v.KnockFor(d.service, session)
	if err != nil {
		return 0, err
	}
	return d.tryWith(ctx, v, session, knock)
}

// tryV2 is try by udp-v2.
func (d besieged) tryV2(ctx context.Context, v lab.Visitor) (time.Duration, error) {
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

func (d besieged) tryWith(ctx context.Context, v lab.Visitor, session, knock []byte) (took time.Duration, err error) {
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
