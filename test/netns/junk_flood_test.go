//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	manyClients = 1000
	junkRate    = 5000 // datagrams a second
	junkVisits  = 20
	junkPause   = 50 * time.Millisecond // between visits, so that each meets other junk
)

// Junk that could be knocks v1, each of any client: a client that is known is
// admitted every time.
func TestKnownClientAdmittedDuringJunk(t *testing.T) {
	testtool.RequireLong(t, "floods the knock worker")
	t.Parallel()
	l := lab.New(t)
	l.AnySource()
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	d := endpoint{name: "ssh", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:22"), upstream: s.Addr}
	var text strings.Builder
	text.WriteString(knocking("length: 3") + "clients:\n")
	for i := range manyClients {
		fmt.Fprintf(&text, "  - {id: client-%d, secret: \"the secret of client %d\"}\n", i, i)
	}
	text.WriteString(services(d))
	gateway := l.NewSite(t, program.get(t), text.String()).Start(t)
	last := manyClients - 1 // the last one tried
	v := lab.Peer{Host: l.Client, ID: fmt.Sprintf("client-%d", last), KnockPort: knockPort,
		Secret: fmt.Appendf(nil, "the secret of client %d", last)}
	if err := d.visit(t.Context(), v, s.Greeting); err != nil {
		t.Fatal(err)
	}
	var neighbours []netip.Addr
	for i := range 16 {
		neighbours = append(neighbours, netip.AddrFrom4([4]byte{10, 9, byte(i), 1}))
	}
	for name, sources := range map[string][]netip.Addr{"of sixteen addresses": neighbours, "of forged addresses": nil} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			junk := lab.Junk{Form: lab.JunkV1, Sources: sources, To: netip.AddrPortFrom(d.listen.Addr(), knockPort)}
			var flooding sync.WaitGroup
			flooding.Go(func() {
				if _, err := l.Attacker.Flood(ctx, junk, junkRate); err != nil {
					t.Error(err)
				}
			})
			for range junkVisits {
				if err := d.visit(t.Context(), v, s.Greeting); err != nil {
					t.Error(err)
				}
				time.Sleep(junkPause)
			}
			stop()
			flooding.Wait()
		})
	}
	tried := 0.0 // by the worker, or refused for want of the means to
	for _, reason := range []string{`reason="knock",verdict="hold"`, `reason="knock-budget",verdict="drop"`} {
		tried += gateway.Metrics()["knockgw_packets_total{"+reason+"}"]
	}
	if tried < junkRate {
		t.Errorf("of the junk %v datagrams passed for knocks", tried)
	}
}
