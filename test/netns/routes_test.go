//go:build linux

package netns_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// routes is what the gateway's kernel has for one of the protected prefixes,
// over all tables.
func routes(l *lab.Lab) string {
	all := l.Gateway.MustRun("ip", "route", "show", "table", "all") +
		l.Gateway.MustRun("ip", "-6", "route", "show", "table", "all")
	var ours []string
	for line := range strings.Lines(all) {
		if strings.Contains(line, "10.77.0.0/24") || strings.Contains(line, "fd77::/64") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	return strings.Join(ours, "\n")
}

// assertBlackholed fails the test unless both prefixes end in a blackhole.
func assertBlackholed(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, prefix := range []string{"blackhole 10.77.0.0/24", "blackhole fd77::/64"} {
		if have := routes(l); !strings.Contains(have, prefix) {
			t.Errorf("there is no %s:\n%s", prefix, have)
		}
	}
}

func TestBlackholeStaysUntilDown(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	before := host(l)
	for name, end := range map[string]func(*lab.Gateway){
		"an orderly stop": (*lab.Gateway).Stop,
		"a crash":         func(g *lab.Gateway) { g.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			gateway := site.Start(t)
			assertBlackholed(t, l)
			for _, prefix := range []string{"10.77.0.0/24 dev " + lab.Tunnel, "fd77::/64 dev " + lab.Tunnel} {
				if have := routes(l); !strings.Contains(have, prefix) {
					t.Errorf("there is no route %s:\n%s", prefix, have)
				}
			}
			for _, a := range []string{"10.77.0.", "fd77::"} {
				if addrs := l.Gateway.MustRun("ip", "addr"); strings.Contains(addrs, a) {
					t.Errorf("a protected address is on an interface:\n%s", addrs)
				}
			}
			end(gateway)
			assertBlackholed(t, l)
			if have := routes(l); strings.Contains(have, lab.Tunnel) {
				t.Errorf("a route leads to a device that is gone:\n%s", have)
			}
			site.Down(t)
			assertUnchanged(t, l, before)
		})
	}
}

func TestDownWithNothingToDo(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	before := host(l)
	site.Down(t)
	site.Down(t)
	assertUnchanged(t, l, before)
}

func TestGatewayStartsAfterCrash(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	for range 3 {
		gateway := site.Start(t)
		for _, d := range all {
			if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
				t.Error(err)
			}
		}
		gateway.Kill()
	}
}

func TestMetricsCountEvents(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	gateway := site.Start(t)
	before := gateway.Metrics()
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
	for _, p := range oddPackets(t, l.Attacker) {
		if err := l.Attacker.Inject(p.dst, p.bytes); err != nil {
			t.Fatal(err)
		}
	}
	after := gateway.Metrics()
	grown := 0
	for name, v := range after {
		if strings.HasPrefix(name, "knockgw_") && v > before[name] {
			grown++
			t.Logf("%s grew by %v", name, v-before[name])
		}
		if strings.Contains(name, l.Client.Addr4.String()) || strings.Contains(name, l.Attacker.Addr4.String()) {
			t.Errorf("a metric has an address in its labels: %s", name)
		}
	}
	if grown == 0 {
		t.Error("no metric of knockgw moved")
	}
}

func TestSecondGatewayLeavesFirstAlone(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	site.Start(t)
	before := routes(l)
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	other := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	other.Write(t, strings.NewReplacer(lab.Tunnel, "knock1", site.State, other.State, ":9091", ":9092", filepath.Dir(site.Config), filepath.Dir(other.Config)).Replace(string(text)))
	command := other.Run()
	said, err := l.Gateway.Run(t.Context(), command[0], command[1:]...)
	if err == nil || !strings.Contains(said, "the device of another gateway") || !strings.Contains(said, lab.Tunnel) {
		t.Errorf("%v: %s", err, said)
	}
	if after := routes(l); after != before {
		t.Errorf("the routes were\n%s\nand are\n%s", before, after)
	}
}

func TestWiderPrefixReplacesNarrower(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	site.Start(t).Stop()
	assertBlackholed(t, l)
	// One that another gateway stands beside is none of ours to take away.
	l.Gateway.MustRun("ip", "tuntap", "add", "dev", "other0", "mode", "tun")
	l.Gateway.MustRun("ip", "link", "set", "other0", "up")
	l.Gateway.MustRun("ip", "route", "add", "10.77.200.0/24", "dev", "other0", "proto", "107", "metric", "64")
	l.Gateway.MustRun("ip", "route", "add", "blackhole", "10.77.200.0/24", "proto", "107", "metric", "9999")

	change(t, site, "routes: [10.77.0.0/24, fd77::/64]", `routes: [10.77.0.0/16, "fd77::/48"]`)
	site.Start(t)
	if have := routes(l); have != "" {
		t.Errorf("of the narrower prefixes there is still\n%s", have)
	}
	if have := l.Gateway.MustRun("ip", "route"); !strings.Contains(have, "blackhole 10.77.200.0/24") {
		t.Errorf("the other gateway's blackhole is gone:\n%s", have)
	}
	assertReachable(t, l, all, s.Greeting)
}
