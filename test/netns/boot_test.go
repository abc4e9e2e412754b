//go:build linux

package netns_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// stateOf is where a site's gateway records what stays silent after a boot.
func stateOf(site *lab.Site) string {
	return filepath.Join(filepath.Dir(site.Config), "hold", "state.json")
}

// knockgwHold runs `knockgw hold` for a site on a host, without its
// configuration.
func knockgwHold(t *testing.T, h *lab.Host, site *lab.Site, args ...string) string {
	t.Helper()
	return h.MustRun(site.Run()[0], append([]string{"hold", "--state", stateOf(site)}, args...)...)
}

// unboot leaves the gateway's host as it is before its network is up: without
// rules, routes, addresses and links. What it returns brings links and
// addresses up.
func unboot(t *testing.T, l *lab.Lab) (boot func(between func())) {
	t.Helper()
	type address struct{ link, addr, extra string }
	var all []address
	for _, link := range []string{"client0", "attacker0", "upstream0"} {
		for line := range strings.Lines(l.Gateway.MustRun("ip", "-oneline", "addr", "show", "dev", link, "scope", "global")) {
			a := address{link, strings.Fields(line)[3], "brd +"}
			if strings.Contains(a.addr, ":") {
				a.extra = "nodad"
			}
			all = append(all, a)
		}
		l.Gateway.MustRun("ip", "addr", "flush", "dev", link, "scope", "global")
		l.Gateway.MustRun("ip", "link", "set", link, "down")
	}
	for _, family := range []string{"-4", "-6"} {
		deleteRules(t, l, family)
		l.Gateway.MustRun("ip", family, "route", "flush", "proto", "107")
		l.Gateway.MustRun("ip", family, "route", "flush", "table", "107")
	}
	return func(between func()) {
		for _, link := range []string{"client0", "attacker0", "upstream0"} {
			l.Gateway.MustRun("ip", "link", "set", link, "up")
		}
		between()
		for _, a := range all {
			l.Gateway.MustRun("ip", strings.Fields("addr add "+a.addr+" dev "+a.link+" "+a.extra)...)
		}
		for _, to := range []string{"10.1.2.1:23", "[fd01:2::1]:23"} { // until the links carry again
			reached(t, l.Attacker, to)
		}
	}
}

// reached waits until a port of the gateway's host answers.
func reached(t *testing.T, from *lab.Host, to string) {
	t.Helper()
	ctx := withTimeout(t, answerTime)
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		conn, err := from.Dial(attempt, "tcp", to)
		cancel()
		if err == nil {
			closeConn(t, conn)
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// assertUnanswered fails the test unless an attacker that sends to protected
// addresses gets no answer.
func assertUnanswered(t *testing.T, l *lab.Lab, all []endpoint) {
	t.Helper()
	capture := l.Attacker.Capture(lab.Link)
	for _, d := range all {
		src := netip.AddrPortFrom(l.Attacker.Addr(d.listen.Addr()), 40001)
		for _, flags := range []layers.TCP{{SYN: true}, {ACK: true}, {}} {
			flags.Seq, flags.Window = 1000, 1024
			inject(t, l.Attacker, d.listen.Addr(), tcpSegment(t, src, d.listen, flags, []byte("x")))
		}
		inject(t, l.Attacker, d.listen.Addr(), udpDatagram(t, src, d.listen, []byte("x")),
			udpDatagram(t, src, netip.AddrPortFrom(d.listen.Addr(), knockPort), []byte("x")))
	}
	time.Sleep(300 * time.Millisecond)
	sent := 0
	for _, p := range capture.Stop() {
		switch {
		case p.Src == l.Attacker.Addr4 || p.Src == l.Attacker.Addr6:
			sent++
		case isError(p) || p.TCP() != nil || p.UDP() != nil:
			t.Errorf("the attacker was answered:\n%v", p)
		}
	}
	if sent == 0 {
		t.Error("silence proves nothing: no packet was sent")
	}
}

// From the first start until down the host is silent, in all states of the
// gateway at a boot.
func TestHoldKeepsHostSilentAfterBoot(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	s := l.Gateway.ServeLines("127.0.0.1:22")
	l.Gateway.ServeLines("[::]:23")
	own := ownEndpoints(s.Addr)
	l.TUN = "  local: [\"10.1.3.1:22\", \"[fd01:3::1]:22\"]\n"
	routed := endpoints(s.Addr)
	all := append(append([]endpoint(nil), own...), routed...)
	site := l.NewSite(t, program.get(t), configuration(all...))
	before := host(l)
	g := site.Start(t)
	if out := knockgwHold(t, l.Gateway, site, "--save"); !strings.Contains(out, "2 prefixes and 4 ports") {
		t.Errorf("hold --save says %s", out)
	}
	assertReachable(t, l, all, s.Greeting)
	g.Kill()

	silent := func() {
		t.Helper()
		assertSilent(t, l, own, false)
		assertUnanswered(t, l, routed)
		for _, d := range own {
			if got := scanned(t, l.Attacker, d.listen.Addr(), hiddenPort, "-sS"); got != "filtered" {
				t.Errorf("nmap finds %v %s, want filtered", d.listen, got)
			}
		}
	}
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	site.Write(t, "version: 1\nnonsense\n") // as broken as it may be
	boot := unboot(t, l)
	knockgwHold(t, l.Gateway, site)
	boot(func() {})
	silent()
	run := site.Run()
	if out, err := l.Gateway.Run(withTimeout(t, answerTime), run[0], run[1:]...); lab.ExitCode(err) != exitConfiguration {
		t.Errorf("run says %v %s", err, out)
	}
	knockgwHold(t, l.Gateway, site) // as after a stop
	silent()

	site.Write(t, string(text))
	g = site.Start(t)
	assertReachable(t, l, all, s.Greeting)
	g.Stop()
	silent()
	if out, err := site.Knockgw(t.Context(), "down", "--state", stateOf(site)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(stateOf(site)); !os.IsNotExist(err) {
		t.Errorf("down has left the state: %v", err)
	}
	assertUnchanged(t, l, before)
	if out := knockgwHold(t, l.Gateway, site); !strings.Contains(out, "0 prefixes and 0 ports") {
		t.Errorf("after down, hold says %s", out)
	}
	assertUnchanged(t, l, before)
	if got := scanned(t, l.Attacker, own[0].listen.Addr(), hiddenPort, "-sS"); got != "closed" {
		t.Errorf("after down the port is %s, want closed", got)
	}
}

// Before the network is up: nothing is there but the namespace.
func TestHoldNeedsNeitherAddressNorLink(t *testing.T) {
	t.Parallel()
	l, site, s, other, all := newHostPorts(t)
	site.Start(t).Stop()
	knockgwHold(t, l.Gateway, site, "--save")
	boot := unboot(t, l)
	l.Gateway.MustRun("ip", "link", "set", "lo", "down")
	knockgwHold(t, l.Gateway, site)
	l.Gateway.MustRun("ip", "link", "set", "lo", "up")
	// The gateway starts before its addresses come.
	var g *lab.Gateway
	boot(func() {
		g = site.Start(t)
		waitLog(t, g.Process, answerTime, "waiting for addresses of tun.local")
		noticed(t, l, g, false)
		if _, why := readiness(t, l); !strings.Contains(why, "no interface of this host has the address 10.1.3.1") {
			t.Errorf("/readyz says %s", why)
		}
	})
	noticed(t, l, g, true)
	waitLog(t, g.Process, answerTime, "all addresses of tun.local are present")
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
	others(t, l, other)
	g.Stop()
	site.Down(t)
}

// An IPv6 address that is tentative for long, as duplicate address detection
// makes it.
func TestGatewayStartsOnTentativeAddress(t *testing.T) {
	t.Parallel()
	l, site, s, _, all := newHostPorts(t)
	l.Gateway.MustRun("ip", "addr", "del", own6+"/64", "dev", "upstream0")
	l.Gateway.Sysctl("ipv6/conf/upstream0/accept_dad", "1")
	l.Gateway.Sysctl("ipv6/conf/upstream0/dad_transmits", "6")
	l.Gateway.MustRun("ip", "addr", "add", own6+"/64", "dev", "upstream0")
	g := site.Start(t)
	waitLog(t, g.Process, answerTime, own6+" is tentative")
	f := diagnosis(t, site, 0)["host ports"]
	if strings.Contains(f.Message, "listens") || strings.Contains(f.Message, "removed") {
		t.Errorf("doctor says %+v", f)
	}
	waitLog(t, g.Process, answerTime, "all addresses of tun.local are present")
	noticed(t, l, g, true)
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
	// It goes, and comes back.
	l.Gateway.MustRun("ip", "addr", "del", own6+"/64", "dev", "upstream0")
	noticed(t, l, g, false)
	l.Gateway.MustRun("ip", "addr", "add", own6+"/64", "dev", "upstream0", "nodad")
	noticed(t, l, g, true)
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
}

func TestDownWithoutConfigRemovesHold(t *testing.T) {
	t.Parallel()
	l, site, _, _, _ := newHostPorts(t)
	before := host(l)
	site.Start(t).Stop()
	knockgwHold(t, l.Gateway, site, "--save")
	if err := os.Remove(site.Config); err != nil {
		t.Fatal(err)
	}
	l.Gateway.MustRun(site.Run()[0], "down", "--all", "--state", stateOf(site))
	assertUnchanged(t, l, before)
	if _, err := os.Stat(stateOf(site)); !os.IsNotExist(err) {
		t.Errorf("down has left the state: %v", err)
	}
}

func TestDownReportsRunningGateway(t *testing.T) {
	t.Parallel()
	l, site, s, _, all := newHostPorts(t)
	g := site.Start(t)
	before := routesAndRules(l)
	out, err := site.Knockgw(t.Context(), "down")
	if lab.ExitCode(err) != 1 || !strings.Contains(out, "stop it") {
		t.Errorf("down says %v\n%s", err, out)
	}
	assertRestored(t, l, before)
	assertReachable(t, l, all, s.Greeting)
	g.Stop()
}

// The gateway's own subnet is silent after a boot, too, and the hosts behind it
// are reached as before.
func TestHoldCoversOwnSubnet(t *testing.T) {
	t.Parallel()
	l, site, s, all := subnetSite(t)
	before := host(l)
	site.Start(t).Stop()
	installed := routesAndRules(l)
	knockgwHold(t, l.Gateway, site, "--save")
	for _, family := range []string{"-4", "-6"} {
		deleteRules(t, l, family)
		l.Gateway.MustRun("ip", family, "route", "flush", "proto", "107")
		l.Gateway.MustRun("ip", family, "route", "flush", "table", "108")
	}
	knockgwHold(t, l.Gateway, site)
	if held := routesAndRules(l); held != installed {
		t.Errorf("after the stop there was\n%s\nand hold has made\n%s", installed, held)
	}
	assertSilence(t, l, subnetAddrs()...)
	for _, d := range all {
		reached(t, l.Gateway, d.listen.String())
	}
	g := site.Start(t)
	assertReachable(t, l, all, s.Greeting)
	g.Stop()
	if out, err := site.Knockgw(t.Context(), "down", "--state", stateOf(site)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	assertUnchanged(t, l, before)
}
