//go:build linux

package netns_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	floodedReloads = 50
	// floodedRate is in packets a second, of each form of junk: no more in all
	// than a capture keeps up with beside everything else.
	floodedRate = 2000
	// floodedPause is between reloads, so that each meets other junk and the
	// whole takes some seconds.
	floodedPause = 50 * time.Millisecond
)

// Junk in every form that a knock has meets every moment of fifty reloads. Who
// knocks correctly is admitted each time, and no other host gets an answer.
func TestReloadsDuringJunkFlood(t *testing.T) {
	testtool.RequireLong(t, "floods the knock worker")
	t.Parallel()
	l := lab.New(t)
	l.AnySource()
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	d := endpoint{name: "office", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:22"), upstream: s.Addr, methods: methods()}
	site := l.NewSite(t, program.get(t), strings.Replace(configuration(d), "window: 30s", "window: 30s, gateway: "+gatewayName, 1)+"audit: {file: audit.log}\n")
	g := site.Start(t)
	v := alice(l.Client)
	if err := d.visit(t.Context(), v, s.Greeting); err != nil {
		t.Fatal(err)
	}

	tap := l.Attacker.Capture(lab.Link)
	flood, stop := context.WithCancel(t.Context())
	var under sync.WaitGroup
	sent := make([]int, 4)
	knocks := netip.AddrPortFrom(d.listen.Addr(), knockPort)
	own := []netip.Addr{l.Attacker.Addr4, l.Attacker.Other4}
	for i, junk := range []lab.Junk{
		{Form: lab.JunkV1, To: knocks, Sources: own}, {Form: lab.JunkV1, To: knocks}, // the latter of forged addresses
		{Form: lab.JunkV2, To: d.listen, Sources: own}, {Form: lab.JunkSYN, To: d.listen, Sources: own},
	} {
		under.Go(func() {
			var err error
			if sent[i], err = l.Attacker.Flood(flood, junk, floodedRate); err != nil {
				t.Error(err)
			}
		})
	}
	visits := 0
	under.Go(func() {
		for flood.Err() == nil {
			if err := d.visit(t.Context(), v, s.Greeting); err != nil {
				t.Errorf("after %d visits: %v", visits, err)
				return
			}
			visits++
			time.Sleep(time.Millisecond)
		}
	})
	before := refusedPackets(g)
	added := services(endpoint{name: "added", listen: netip.MustParseAddrPort("10.77.0.1:8100"), mode: "knock", upstream: s.Addr,
		methods: []string{protocol.MethodTCPSYN, protocol.MethodUDPv2}})
	for n := range floodedReloads {
		if n%2 == 0 {
			change(t, site, "services:\n  - name", added+"  - name")
		} else {
			change(t, site, added, "services:\n")
		}
		hangUp(t, g, reloadedWords, n+1)
		time.Sleep(floodedPause)
	}
	stop()
	under.Wait()
	t.Logf("%d reloads beside %v packets of junk and %d visits; %.0f packets were refused", floodedReloads, sent,
		visits, refusedPackets(g)-before)
	if visits < floodedReloads {
		t.Errorf("only %d visits were made", visits)
	}
	packets := tap.Stop()
	l.Attacker.Silent(packets)
	for _, p := range packets { // forged addresses are the attacker's, too
		if lab.Protected4.Contains(p.Src) || lab.Protected6.Contains(p.Src) {
			t.Errorf("the attacker's side got\n%v", p)
			break
		}
	}
}
