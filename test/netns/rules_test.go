//go:build linux

package netns_test

import (
	"strings"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// ruleOrder is what `ip rule` shows of the rules of one family, a rule a line.
func ruleOrder(l *lab.Lab, family string) string {
	return strings.TrimSpace(l.Gateway.MustRun("ip", family, "rule"))
}

// flushRules does what a policy-routing script does: it deletes every rule that
// it can, and adds the usual ones.
func flushRules(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		l.Gateway.MustRun("ip", family, "rule", "flush")
		for _, usual := range []string{"pref 32766 lookup main", "pref 32767 lookup default"} {
			// The kernel keeps main of IPv6, and adding it again is an error
			// then.
			_, _ = l.Gateway.Run(t.Context(), "ip", append([]string{family, "rule", "add"}, strings.Fields(usual)...)...)
		}
	}
}

func TestRulesSurviveFlush(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l, site, s, other, all := newHostPorts(t)
	g := site.Start(t)
	before := ruleOrder(l, "-4")
	flushRules(t, l)
	if after := ruleOrder(l, "-4"); after != before {
		t.Errorf("the rules were\n%s\nand are after a flush\n%s", before, after)
	}
	noticed(t, l, g, true)
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
	others(t, l, other)
	reached(t, l.Gateway, "127.0.0.1:22")
	g.Stop()
	flushRules(t, l)
	assertSilent(t, l, all, false)
	others(t, l, other)
	site.Down(t)
}

// Rules where an earlier version had them, and the local table's rule behind
// them, which a flush would delete.
func TestRulesOfEarlierVersionAreMoved(t *testing.T) {
	t.Parallel()
	l, site, s, other, all := newHostPorts(t)
	before := host(l)
	for family, addr := range map[string]string{"-4": own4, "-6": own6} {
		for _, r := range []string{
			"add pref 13 lookup local protocol kernel",
			"add pref 10 to " + addr + " ipproto tcp dport 22 lookup 107 protocol 107",
			"add pref 10 to " + addr + " ipproto udp dport 22 lookup 107 protocol 107",
			"add pref 11 to " + addr + " ipproto tcp dport 1-65534 lookup local protocol 107",
			"add pref 11 to " + addr + " ipproto tcp sport 1-65534 lookup local protocol 107",
			"add pref 12 to " + addr + " ipproto tcp blackhole protocol 107",
			"del pref 0 lookup local",
		} {
			l.Gateway.MustRun("ip", append([]string{family, "rule"}, strings.Fields(r)...)...)
		}
	}
	g := site.Start(t)
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(ruleOrder(l, family)) {
			if strings.Contains(line, "107") && !strings.HasPrefix(line, "0:") || strings.HasPrefix(line, "13:") {
				t.Errorf("there still is %s", line)
			}
		}
	}
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
	others(t, l, other)
	g.Stop()
	site.Down(t)
	assertUnchanged(t, l, before)
}

// A port more is hidden, though the rule that gives the host its other ports is
// there already.
func TestRulesOfHiddenPortPrecedeOlderRules(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l, site, s, _, all := newHostPorts(t)
	before := host(l)
	site.Start(t).Kill()
	change(t, site, "  local: [", `  local: ["10.1.3.1:24", `)
	g := site.Start(t)
	if got := scanned(t, l.Attacker, all[0].listen.Addr(), 24, "-sS"); got != "filtered" {
		t.Errorf("the port is %s, want filtered", got)
	}
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
	g.Stop()
	site.Down(t)
	assertUnchanged(t, l, before)
}
