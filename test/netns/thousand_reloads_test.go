//go:build linux

package netns_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// The numbers of reloads after which the gateway is looked at are multiples of
// the number of changes, after which the configuration is what it was: what
// differs then was left behind.
const (
	longReloads, longReference   = 1000, 100
	shortReloads, shortReference = 100, 20

	// shortPause and longPause are between reloads. In the long form, what a
	// gateway remembers of messages it forgets within half a minute with the
	// window below; the first hundred must take as long, or what fills up then
	// would pass for something that was left behind.
	shortPause = 30 * time.Millisecond
	longPause  = 350 * time.Millisecond

	// manyNeighbours have one knock method each that the kernel's filter has a
	// table for, so that a service more is a small part of it.
	manyNeighbours = 100
)

// An operator changes a gateway's configuration and has it loaded.
type operator struct {
	*lab.Lab

	site          *lab.Site
	gateway       *lab.Gateway
	control       *control.Client
	base          string // the configuration without the guest and Carol
	lines, others *lab.LineServer

	guest  *endpoint // a service that comes and goes
	secret string    // Carol's; empty while she is no client
	inside net.Conn

	reloaded, refused int // how often the gateway has said so
}

// text is the configuration now.
func (o *operator) text() string {
	text := o.base
	if o.secret != "" {
		text = strings.Replace(text, "  - {id: bob", fmt.Sprintf("  - {id: carol, secret: %q}\n  - {id: bob", o.secret), 1)
	}
	if o.guest != nil {
		text = strings.Replace(text, "services: [", "services: ["+o.guest.name+", ", 1)
		text = strings.Replace(text, "services:\n  - name", services(*o.guest)+"  - name", 1)
	}
	return text
}

// load makes the gateway load a text, by SIGHUP or by the command, and returns
// how many flows that ended. refused says that the text must be rejected.
func (o *operator) load(t *testing.T, text string, bySignal, refused bool) (ended int) {
	t.Helper()
	o.site.Write(t, text)
	code := 0
	if refused {
		o.refused++
		code = exitConfiguration
	} else {
		o.reloaded++
	}
	if bySignal {
		o.gateway.Signal(syscall.SIGHUP)
	} else if out, err := o.site.Knockgw(withTimeout(t, answerTime), "reload"); lab.ExitCode(err) != code {
		t.Fatalf("reload says %v\n%s", err, out)
	}
	var log string
	if err := o.gateway.WaitLog(withTimeout(t, answerTime), func(all string) bool {
		log = all
		return strings.Count(all, reloadedWords)+strings.Count(all, refusedWords) >= o.reloaded+o.refused
	}); err != nil {
		t.Fatal(err)
	}
	if a, b := strings.Count(log, reloadedWords), strings.Count(log, refusedWords); a != o.reloaded || b != o.refused {
		t.Fatalf("the log has %d reloads, want %d; %d were refused, want %d", a, o.reloaded, b, o.refused)
	}
	if refused {
		return 0
	}
	if _, err := fmt.Sscanf(log[strings.LastIndex(log, "flows_ended="):], "flows_ended=%d", &ended); err != nil {
		t.Fatalf("the log does not say how many flows were ended: %v", err)
	}
	return ended
}

// A turn is a change of the configuration, and what it must have done.
type turn struct {
	name    string
	change  func(n int)
	refused func(text string) string // nil, or what makes the text one that must be refused
	ends    bool                     // Carol's session
	check   func(t *testing.T)
}

// turns are all the changes, after which the configuration is what it was.
func (o *operator) turns() []turn {
	guestSays := func(s *lab.LineServer) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := o.guest.visit(t.Context(), alice(o.Client), s.Greeting); err != nil {
				t.Error(err)
			}
		}
	}
	carols := func() lab.Peer {
		return lab.Peer{Host: o.Client, From: o.Client.Other4, ID: "carol", Secret: []byte(o.secret), KnockPort: knockPort}
	}
	enters := func(t *testing.T) {
		t.Helper()
		if o.inside != nil {
			_ = o.inside.Close()
		}
		var err error
		if o.inside, err = o.guest.enter(withTimeout(t, admitTime), carols()); err != nil {
			t.Fatal(err)
		}
		ask(t, o.inside, "hello")
	}
	isInside := func(t *testing.T) { t.Helper(); ask(t, o.inside, "hello") }
	nothing := func(int) {}
	return []turn{
		{name: "a service is added", change: func(n int) {
			o.guest = &endpoint{name: fmt.Sprintf("guest-%d", n), mode: "knock-auth", upstream: o.lines.Addr,
				listen: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.9"), uint16(10_000+n))}
		}, check: guestSays(o.lines)},
		{name: "its upstream is another", change: func(int) { o.guest.upstream = o.others.Addr }, check: guestSays(o.others)},
		{name: "a client is added", change: func(n int) { o.secret = fmt.Sprintf("the first secret of Carol, %d", n) }, check: enters},
		{name: "a file with a mistake", change: nothing, refused: func(text string) string {
			return strings.Replace(text, "udp_port", "udp_prot", 1)
		}, check: isInside},
		{name: "a secret is rotated", change: func(n int) { o.secret = fmt.Sprintf("another secret of Carol, %d", n) }, ends: true, check: enters},
		{name: "every method is taken", change: func(int) { o.guest.methods = methods() }, check: guestSays(o.others)},
		{name: "a service that needs a restart", change: nothing, refused: func(text string) string {
			return strings.Replace(text, "services:\n  - name",
				services(endpoint{name: "far", mode: "knock", listen: netip.MustParseAddrPort("10.79.0.1:1"), upstream: o.lines.Addr})+"  - name", 1)
		}, check: isInside},
		{name: "it answers attackers", change: func(int) { o.guest.mode = "auth" }, check: func(t *testing.T) {
			t.Helper()
			isInside(t)
			guestSays(o.others)(t)
		}},
		{name: "a client is removed", change: func(int) { o.secret = "" }, ends: true, check: func(t *testing.T) {
			t.Helper()
			// The gate lets nothing of hers out any more; the relay has to end
			// yet.
			for began := time.Now(); ; time.Sleep(time.Millisecond) {
				list, err := o.control.Flows(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				at := slices.IndexFunc(list.Flows, func(f control.Flow) bool { return f.Client == "carol" })
				if at < 0 {
					break
				}
				if time.Since(began) > revokeTime {
					t.Fatalf("she is still inside: %+v", list.Flows[at])
				}
			}
			_ = o.inside.Close()
			o.inside = nil
		}},
		{name: "a service is removed", change: func(int) { o.guest = nil }, check: func(*testing.T) {}},
	}
}

// reload makes reload n, counted from 1.
func (o *operator) reload(t *testing.T, all []turn, n int) {
	t.Helper()
	at, round := (n-1)%len(all), (n-1)/len(all)
	s := &all[at]
	s.change(n)
	text := o.text()
	if s.refused != nil {
		text = s.refused(text)
	}
	ended := o.load(t, text, (at+round)%2 == 0, s.refused != nil) // each change by both methods, alternating
	if s.ends && ended == 0 {
		t.Errorf("reload %d, %s: Carol's session goes on", n, s.name)
	}
	s.check(t)
	if t.Failed() {
		t.Fatalf("this was reload %d: %s", n, s.name)
	}
}

// newOperator starts a gateway with endpoints of every kind, one before iperf3,
// and many clients.
func newOperator(t *testing.T) (o *operator, hidden []endpoint, bulk *iperf, echo endpoint) {
	t.Helper()
	l := lab.New(t)
	o = &operator{Lab: l}
	o.lines = l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	o.others = l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr6, 7000).String())
	o.others.Greeting = "hello from the other one"
	hidden = hiddenEndpoints(o.lines.Addr)
	for i := range hidden {
		hidden[i].methods = []string{protocol.MethodUDP, protocol.MethodUDPv2}
	}
	bulk = serveIperf(l)
	echo = endpoint{name: "echo", mode: "knock-auth", listen: netip.MustParseAddrPort("[fd77::1]:7"), upstream: serveEcho(l)}
	text := configuration(append(hidden, bulk.endpoint, echo)...)
	text = strings.Replace(text, "window: 30s}", fmt.Sprintf("window: 5s, gateway: %s}", gatewayName), 1)
	var neighbours strings.Builder
	for i := range manyNeighbours {
		fmt.Fprintf(&neighbours, "  - {id: neighbour-%d, secret: \"the secret of neighbour %d\", services: [%s]}\n", i, i, hidden[0].name)
	}
	text = strings.Replace(text, "  - {id: bob", neighbours.String()+"  - {id: bob", 1)
	// With an audit, the log has not a line for each knock.
	o.site = l.NewSite(t, program.get(t), text+"audit: {file: audit.log}\n")
	b, err := os.ReadFile(o.site.Config)
	if err != nil {
		t.Fatal(err)
	}
	o.base = string(b)
	o.control = &control.Client{Socket: filepath.Join(filepath.Dir(o.site.Config), "control.sock")}
	o.gateway = o.site.Start(t)
	return o, hidden, bulk, echo
}

// A thousand changes do not affect unrelated clients, and leave nothing behind.
func TestThousandReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "iperf3")
	long := testtool.Long()
	reloads, reference, pause := shortReloads, shortReference, shortPause
	if long {
		reloads, reference, pause = longReloads, longReference, longPause
	}
	o, hidden, bulk, echo := newOperator(t)
	b := o.beginLoad(t, hidden, bulk, echo)
	all := o.turns()
	var first footprint
	began := time.Now()
	for n := 1; n <= reloads; n++ {
		o.reload(t, all, n)
		time.Sleep(pause)
		if b.failed() {
			break // which it says itself
		}
		if n != reference && n != reloads {
			continue
		}
		t.Logf("%d reloads in %v beside %s", n, time.Since(began).Round(time.Second), b)
		b.pause(t, o, long)
		now := o.footprint(t)
		b.resume()
		if n == reference {
			first = now
			continue
		}
		now.within(t, first, long)
	}
	b.end(t)
	m := o.gateway.Metrics()
	if done, not := m[`knockgw_config_reloads_total{result="ok"}`], m[`knockgw_config_reloads_total{result="rejected"}`]; int(done) != o.reloaded || int(not) != o.refused {
		t.Errorf("the metrics have %v reloads and %v that were refused, and there were %d and %d", done, not, o.reloaded, o.refused)
	}
}
