//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// openEndpoints is how many open services the SYNs are for: with their
	// queues' sizes together they could take all of the table of flows, which
	// has room for 131,072.
	openEndpoints = 8
	openFloodSYNs = 131_500
	// openFillRate fills a table in some seconds, and openFloodRate, a megabit a
	// second, keeps it full for days.
	openFillRate  = 20_000
	openFloodRate = 3_000
	// openFloodVisits is how often clients come with each method, during the
	// flood and again after it.
	openFloodVisits = 8
)

// SYNs of sources that do not exist, as many as there are places for flows,
// leave clients of a hidden service their places.
func TestOpenServiceFloodSparesHiddenService(t *testing.T) {
	testtool.RequireLong(t, "floods for 20 s")
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		var endpoints []endpoint
		for i := range openEndpoints {
			endpoints = append(endpoints, endpoint{name: fmt.Sprintf("open-%d", i), mode: "auth", upstream: r.addr,
				listen: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), uint16(9001+i))})
		}
		hidden := hiddenAt("10.77.0.2:22", "knock-auth", r.addr, protocol.MethodUDP, protocol.MethodUDPv2, protocol.MethodTCPSYN)
		l.NewSite(t, program.get(t), attackText("", append(endpoints, hidden)...)).Start(t)
		visits := func() time.Duration {
			var all time.Duration
			for _, method := range []string{protocol.MethodUDP, protocol.MethodUDPv2} {
				all = max(all, medianAdmission(t, attackedDialer(t, l, hidden, method), hidden, r.greeting, openFloodVisits))
			}
			person := newCLIClient(t, l.Client, "alice", aliceSecret)
			if out, err := person.connect(withTimeout(t, admitTime), hidden.listen, "hello", "--method", protocol.MethodTCPSYN, "--proof"); err != nil || !strings.Contains(out, r.greeting) {
				t.Errorf("by %s: %v\n%s", protocol.MethodTCPSYN, err, out)
			}
			return all
		}
		before := visits()
		var sent atomic.Int64
		random := seeded()
		next := func(b []byte) int {
			d := endpoints[sent.Add(1)%openEndpoints]
			src := netip.AddrPortFrom(anySource(random, d.listen.Addr()), uint16(1024+random.IntN(60_000)))
			s := lab.Segment{Src: src, Dst: d.listen, Seq: random.Uint32(), Flags: lab.SYN, Options: []byte{2, 4, 5, 180}}
			return len(s.Append(b[:0]))
		}
		during(t, l, endpoints[0].listen.Addr(), next, openFillRate, func() {
			for sent.Load() < openFloodSYNs {
				time.Sleep(attackDelay)
			}
		})
		var under time.Duration
		during(t, l, endpoints[0].listen.Addr(), next, openFloodRate, func() { under = visits() })
		after := visits()
		r.onlyClients(t)
		t.Logf("median %v, during %d SYNs %v, after them %v", before, sent.Load(), under, after)
		if max(under, after) > before+attackSlack {
			t.Errorf("clients had to wait: median %v, during the flood %v, after it %v", before, under, after)
		}
	})
}
