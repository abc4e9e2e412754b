//go:build linux

package netns_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/doctor"
)

// A prefix that is part of the client's own network: its hosts ask for the
// addresses, which needs an answer.
func TestPrefixInClientSubnetNeedsProxyARP(t *testing.T) {
	t.Parallel()
	l, site, s, _ := site(t)
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	near4 := endpoint{name: "near-v4", listen: netip.MustParseAddrPort("10.1.1.65:22"), mode: "knock-auth", upstream: s.Addr}
	near6 := endpoint{name: "near-v6", listen: netip.MustParseAddrPort("[fd01:1::1:65]:22"), mode: "knock-auth", upstream: s.Addr}
	changed := strings.Replace(string(text), "routes: [", "routes: [10.1.1.64/28, \"fd01:1::1:0/112\", ", 1)
	site.Write(t, strings.Replace(changed, "services: [auth-v4", "services: [near-v4, near-v6, auth-v4", 1)+
		strings.TrimPrefix(services(near4, near6), "services:\n"))
	site.Start(t)
	for range 2 { // a prefix each
		f := diagnosis(t, site, 0)["routes"]
		if f.Level != doctor.Warn || !strings.Contains(f.Fix, "ip neigh add proxy") {
			t.Fatalf("it says %+v", f)
		}
		l.Gateway.MustRun("sh", "-ec", f.Fix)
	}
	if f := diagnosis(t, site, 0)["routes"]; f.Level != doctor.OK {
		t.Errorf("after what it said was typed: %+v", f)
	}
	assertReachable(t, l, []endpoint{near4, near6}, s.Greeting)
}

// Rules that were there first are asked before the gateway's and lead packets
// away from it: the kernel is asked where they go.
func TestDoctorFindsDivertingRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ rule, says string }{
		"to nowhere":        {"pref 0 to " + own4 + " blackhole", "routed to nowhere"},
		"to the host":       {"pref 0 to " + own4 + " lookup local", "routed to"},
		"those of a prefix": {"pref 0 to 10.77.0.0/24 blackhole", "routed to nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, s, _, all := newHostPorts(t)
			rule := strings.Fields(c.rule)
			l.Gateway.MustRun("ip", append([]string{"rule", "add"}, rule...)...)
			site.Start(t)
			f := diagnosis(t, site, 1)["ingress route"]
			if f.Level != doctor.Fail || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Fix, "ip rule") {
				t.Errorf("it says %+v", f)
			}
			if out := l.Gateway.MustRun("sh", "-c", f.Fix+"\ntrue"); !strings.Contains(out, rule[1]+":") {
				t.Errorf("what it says to type does not show the rule:\n%s", out)
			}
			l.Gateway.MustRun("ip", append([]string{"rule", "del"}, rule...)...)
			if f := diagnosis(t, site, 0)["ingress route"]; f.Level != doctor.OK {
				t.Errorf("after: %+v", f)
			}
			assertReachable(t, l, all, s.Greeting)
		})
	}
}

func TestRulesOfOthersComeAfterOurs(t *testing.T) {
	t.Parallel()
	l, site, s, _, all := newHostPorts(t)
	g := site.Start(t)
	for _, rule := range []string{"pref 0 lookup main", "pref 0 to " + own4 + " blackhole", "pref 1 lookup local", "pref 5 lookup main"} {
		l.Gateway.MustRun("ip", append([]string{"rule", "add"}, strings.Fields(rule)...)...)
		assertReachable(t, l, all, s.Greeting)
		assertSilent(t, l, all, true)
	}
	noticed(t, l, g, true)
	if f := diagnosis(t, site, 0)["ingress route"]; f.Level != doctor.OK {
		t.Errorf("it says %+v", f)
	}
}

// Listeners of others are in the way of the gateway's own.
func TestDoctorFindsPortConflicts(t *testing.T) {
	t.Parallel()
	l, site, _, _ := site(t)
	l.Gateway.Listen("tcp", "127.0.0.1:9091")
	taken, err := net.Listen("unix", filepath.Join(filepath.Dir(site.Config), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := taken.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1)) // net/http logs an answer to no question
			_, _ = c.Write([]byte("what?\n"))
			_ = c.Close()
		}
	}()
	f := diagnosis(t, site, 1)["gateway"]
	if f.Level != doctor.Fail {
		t.Errorf("it says %+v", f)
	}
	// Unix sockets are shown in the namespace of the listener.
	if out, err := exec.CommandContext(t.Context(), "sh", "-ec", f.Fix).CombinedOutput(); err != nil || !strings.Contains(string(out), "control.sock") {
		t.Errorf("what it says to type shows %v\n%s", err, out)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	f = diagnosis(t, site, 1)["metrics.listen"]
	if f.Level != doctor.Fail {
		t.Fatalf("it says %+v", f)
	}
	if out := l.Gateway.MustRun("sh", "-ec", f.Fix); !strings.Contains(out, "127.0.0.1:9091") {
		t.Errorf("what it says to type shows\n%s", out)
	}
}
