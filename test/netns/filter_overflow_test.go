//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// crowd is how many clients a reload brings: more than the filter of a
	// gateway with a handful has room for.
	crowd = 4000
	// crowdFlood is how long each form of junk is sent, at crowdRate a second.
	crowdFlood = 500 * time.Millisecond
	crowdRate  = 2000
)

// A filter whose table is too small for the clients that a reload brings
// excludes no client and admits no other.
func TestFilterOverflowAdmitsClients(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	l.TUN = "  filter: require\n"
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, protocol.MethodUDP, protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodUDPv2)
	// One service has every method, so that each client is expected in every
	// form there.
	every := everyMethod(s.Addr)[0]
	every.listen = netip.MustParseAddrPort("10.77.0.3:22")
	first := newCLIClient(t, l.Client, "alice", aliceSecret)
	site := l.NewSite(t, program.get(t), knocking("length: 3")+clients(first)+services(append(endpointsOf(all), every)...))
	gateway := site.Start(t)
	crowded := func(want float64) {
		t.Helper()
		if got, ok := gateway.Metrics()["knockgw_filter_overflow"]; !ok || got != want {
			t.Errorf("knockgw_filter_overflow is %v, want %v", got, want)
		}
	}
	crowded(0)

	var more strings.Builder
	last := newCLIClient(t, l.Client, fmt.Sprintf("client-%d", crowd-1), fmt.Sprintf("the secret of client %d", crowd-1))
	for i := range crowd {
		fmt.Fprintf(&more, "  - {id: client-%d, secret: \"the secret of client %d\"}\n", i, i)
	}
	change(t, site, "services:\n", more.String()+"services:\n")
	for _, command := range [][]string{{"check"}, {"reload", "--dry-run"}, {"reload"}} {
		crowded(0)
		out, err := site.Knockgw(withTimeout(t, answerTime), command[0], command[1:]...)
		if err != nil || !strings.Contains(out, "until a restart") {
			t.Errorf("%v says %v\n%.300s", command, err, out)
		}
	}
	crowded(1)
	if !strings.Contains(gateway.Log(), "the kernel's filter has room for") {
		t.Error("the log does not say so")
	}
	for _, d := range all {
		for _, p := range []cliClient{first, last} {
			p.assertReaches(t, d.endpoint, s.Greeting, d.flags()...)
		}
	}
	tap := l.Attacker.Capture(lab.Link)
	for _, junk := range []lab.Junk{{Form: lab.JunkSYN, To: every.listen}, {Form: lab.JunkV2, To: every.listen}} {
		junk.Sources = []netip.Addr{l.Attacker.Addr4}
		before := refusedPackets(gateway)
		ctx, stop := context.WithTimeout(t.Context(), crowdFlood)
		sent, err := l.Attacker.Flood(ctx, junk, crowdRate)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		if refusedPackets(gateway)-before < float64(sent)/2 {
			t.Errorf("of %d packets of form %d, %v were judged", sent, junk.Form, refusedPackets(gateway)-before)
		}
	}
	l.Attacker.Silent(tap.Stop())

	change(t, site, more.String(), "")
	if out, err := site.Knockgw(withTimeout(t, answerTime), "reload"); err != nil || strings.Contains(out, "until a restart") {
		t.Errorf("reload says %v\n%.300s", err, out)
	}
	crowded(0)
	change(t, site, "services:\n", more.String()+"services:\n")
	gateway.Stop()
	gateway = site.Start(t)
	crowded(0) // it has the room that it needs now
	last.assertReaches(t, all[0].endpoint, s.Greeting, all[0].flags()...)
}
