//go:build linux

package netns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/doctor"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// noticed fails the test unless the gateway notices, soon, whether all that leads packets to it is there.
func noticed(t *testing.T, l *lab.Lab, g *lab.Gateway, intact bool) {
	t.Helper()
	want := 0.0
	if intact {
		want = 1
	}
	const ready = `knockgw_ready{check="routes"}`
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		m := g.Metrics()
		if m[ready] == want {
			break
		}
		if time.Since(began) > answerTime {
			t.Fatalf("%s is %v, want %v\n%s", ready, m[ready], want,
				l.Gateway.MustRun("ip", "route", "show", "table", "all"))
		}
	}
}

func TestTheGatewayNoticesThatItsRoutesAreGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hurt, mend []string // commands of ip
		says       string
	}{
		"the route of the device": {[]string{"route del 10.77.0.0/24 dev knock0"},
			[]string{"route add 10.77.0.0/24 dev knock0 metric 64 proto 107"}, "10.77.0.0/24 to knock0"},
		"the blackhole": {[]string{"-6 route del blackhole fd77::/64 metric 9999"},
			[]string{"-6 route add blackhole fd77::/64 metric 9999 proto 107"}, "the blackhole of fd77::/64"},
		"the interface is down": {[]string{"link set knock0 down"},
			[]string{"link set knock0 up", "route add 10.77.0.0/24 dev knock0 metric 64 proto 107", "-6 route add fd77::/64 dev knock0 metric 64 proto 107"}, "knock0 is down"},
		// An address that comes and goes takes the routes of IPv4 with it, of which the kernel does not tell.
		"an address on the interface for a moment": {[]string{"addr add 192.0.2.9/32 dev knock0", "addr del 192.0.2.9/32 dev knock0"},
			[]string{"route add 10.77.0.0/24 dev knock0 metric 64 proto 107"}, "10.77.0.0/24 to knock0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, s, all := site(t)
			g := site.Start(t)
			noticed(t, l, g, true)
			for _, command := range c.hurt {
				l.Gateway.MustRun("ip", strings.Fields(command)...)
			}
			noticed(t, l, g, false)
			said(t, g.Process, answerTime, c.says)
			if f := diagnosis(t, site, 1)["routes"]; f.Level != doctor.Fail || !strings.Contains(f.Found, c.says) || !strings.Contains(f.Mend, "systemctl restart") {
				t.Errorf("doctor says %+v", f)
			}
			for _, command := range c.mend {
				l.Gateway.MustRun("ip", strings.Fields(command)...)
			}
			noticed(t, l, g, true)
			said(t, g.Process, answerTime, "all there again")
			works(t, l, all, s.Greeting)
		})
	}
}

// deleteRules deletes the gateway's rules one by one: a flush leaves those of priority 0 alone.
func deleteRules(t *testing.T, l *lab.Lab, family string) {
	t.Helper()
	for {
		if _, err := l.Gateway.Run(t.Context(), "ip", family, "rule", "del", "pref", "0", "protocol", "107"); err != nil {
			return
		}
	}
}

// As a network manager does that clears away what it has not made: rules that are not the kernel's, and routes.
func TestPortsStaySilentWhenSomebodyRemovesTheirRules(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l, site, s, other, all := hides(t)
	g := site.Start(t)
	noticed(t, l, g, true)
	for _, family := range []string{"-4", "-6"} {
		deleteRules(t, l, family)
		l.Gateway.MustRun("ip", family, "route", "flush", "table", "107")
	}
	noticed(t, l, g, false)
	// The host says of a first fragment of IPv6 with half a header that it is one, whatever its port.
	mum(t, l, all[:1], true)
	for _, d := range all {
		if got := scanned(t, l.Stranger, d.listen.Addr(), hiddenPort, "-sS"); got != "filtered" {
			t.Errorf("nmap finds %v %s, want filtered", d.listen, got)
		}
	}
	others(t, l, other)
	if f := diagnosis(t, site, 1)["host's own ports"]; f.Level != doctor.Fail || !strings.Contains(f.Found, "rule 0: to 10.1.3.1") {
		t.Errorf("doctor says %+v", f)
	}
	g.Stop()
	g = site.Start(t) // as doctor says
	noticed(t, l, g, true)
	works(t, l, all, s.Greeting)
	mum(t, l, all, true)
	g.Stop()
	site.Down(t)
}
