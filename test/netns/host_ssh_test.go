//go:build linux

package netns_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// othersRules are what others put beside ours: a VPN that marks its own
// packets, one with tables of its own, VRFs.
const othersRules = `for f in -4 -6; do
	ip $f rule add pref 1000 l3mdev protocol kernel
	ip $f rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
	ip $f rule add pref 5270 lookup 52
	ip $f rule add pref 32763 lookup main suppress_prefixlength 0
	ip $f rule add pref 32764 not fwmark 51820 lookup 51820
done`

// The ssh of a rented server: one address, a hidden port beside visible ones,
// strict filtering of sources, rules of others.
func TestHostSSHIsHidden(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	for _, name := range []string{"all", "client0", "attacker0", "upstream0"} {
		l.Gateway.Sysctl("ipv4/conf/"+name+"/rp_filter", "1")
	}
	l.Gateway.MustRun("sh", "-ec", othersRules)
	rules := func() string {
		return l.Gateway.MustRun("ip", "-4", "rule") + l.Gateway.MustRun("ip", "-6", "rule")
	}
	before := rules()
	server := serveSSH(t, l.Gateway, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), sshPort))
	visible := l.Gateway.ServeLines("[::]:23")
	ssh4 := endpoint{name: "ssh", listen: netip.AddrPortFrom(netip.MustParseAddr(own4), sshPort), upstream: "127.0.0.1:22"}
	ssh6 := endpoint{name: "ssh6", listen: netip.AddrPortFrom(netip.MustParseAddr(own6), sshPort), upstream: "127.0.0.1:22"}
	l.TUN = "  local: [\"" + ssh4.listen.String() + "\", \"" + ssh6.listen.String() + "\"]\n"
	h := hide(t, l, protocol.MethodUDP, ssh4, ssh6)
	for _, d := range []endpoint{ssh4, ssh6} {
		options := append(server.options("knockgw connect "+d.name), "-o", "HostKeyAlias=ssh")
		out := h.run(t, "ssh", append(options, "root@"+d.name, "echo here I am")...)
		if !strings.Contains(out, "here I am") {
			t.Errorf("ssh printed %q", out)
		}
		interactive(t, h, append(options, "-tt", "root@"+d.name))
		original := filepath.Join(t.TempDir(), "original")
		want := random(t, original, 20_000_000)
		h.run(t, "scp", append(append([]string{"-q"}, options...), original, "root@"+d.name+":"+original+".up")...)
		assertSilent(t, l, []endpoint{d}, true)
		h.run(t, "scp", append(append([]string{"-q"}, options...), "root@"+d.name+":"+original+".up", original+".back")...)
		if got := digest(t, original+".back"); got != want {
			t.Error("what came back is not what went there")
		}
		h.filtered(t, d)
	}
	others(t, l, visible)
	t.Run("what the host does itself goes on", func(t *testing.T) {
		there := l.Upstream.ServeLines("[::]:7000")
		for _, a := range []string{own4, own6} {
			own := netip.MustParseAddr(a)
			for what, c := range map[string]struct{ from, to netip.AddrPort }{
				"a connection to elsewhere": {netip.AddrPortFrom(own, 0), netip.AddrPortFrom(l.Upstream.Addr(own), 7000)},
				"a connection to itself":    {netip.AddrPortFrom(own, 0), netip.AddrPortFrom(own, otherPort)},
			} {
				conn, err := l.Gateway.DialFrom(withTimeout(t, admitTime), c.from.Addr(), "tcp", c.to.String())
				if err != nil {
					t.Errorf("%s from %s: %v", what, a, err)
					continue
				}
				want := visible.Greeting
				if c.to.Port() == 7000 {
					want = there.Greeting
				}
				if got := ask(t, conn, "hello"); got != want {
					t.Errorf("%s from %s: %q", what, a, got)
				}
				closeConn(t, conn)
			}
			udp := l.Gateway.ListenPacket("udp", netip.AddrPortFrom(own, 5353).String())
			conn, err := l.Attacker.Dial(withTimeout(t, admitTime), "udp", udp.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("a question")); err != nil {
				t.Fatal(err)
			}
			if err := udp.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
				t.Fatal(err)
			}
			var b [64]byte
			if n, _, err := udp.ReadFrom(b[:]); err != nil || string(b[:n]) != "a question" {
				t.Errorf("a datagram to another port of %s: %q, %v", a, b[:n], err)
			}
			closeConn(t, conn)
			if out, err := l.Attacker.Run(withTimeout(t, admitTime), "nmap", "-sn", "-n", "-PE", "--disable-arp-ping", family(own), a); err != nil || !strings.Contains(out, "1 host up") {
				t.Errorf("a ping of %s: %v\n%s", a, err, out)
			}
		}
	})
	t.Run("an address that goes and comes back", func(t *testing.T) {
		noticed(t, l, h.gateway, true)
		l.Gateway.MustRun("ip", "addr", "del", own4+"/24", "dev", "upstream0")
		noticed(t, l, h.gateway, false)
		waitLog(t, h.gateway.Process, answerTime, "no interface of this host has the address "+own4)
		l.Gateway.MustRun("ip", "addr", "add", own4+"/24", "dev", "upstream0")
		noticed(t, l, h.gateway, true)
		h.filtered(t, ssh4)
		h.run(t, "ssh", append(server.options("knockgw connect ssh"), "root@ssh", "true")...)
	})
	h.gateway.Stop()
	h.filtered(t, ssh4)
	assertSilent(t, l, []endpoint{ssh4, ssh6}, false)
	h.gateway.Down(t)
	if now := rules(); now != before {
		t.Errorf("the rules are\n%s\nand were\n%s", now, before)
	}
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "-6"
	}
	return "-4"
}

// Who uses VRFs has the local table asked late already. It stays where it is.
func TestLocalRuleKeepsLowPriority(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l, site, s, other, all := newHostPorts(t)

	for _, f := range []string{"-4", "-6"} {
		l.Gateway.MustRun("sh", "-ec", "ip "+f+" rule add pref 32765 lookup local protocol kernel && ip "+f+" rule del pref 0")
	}
	show := func() string { return l.Gateway.MustRun("ip", "-4", "rule") + l.Gateway.MustRun("ip", "-6", "rule") }
	rules := show()
	g := site.Start(t)
	noticed(t, l, g, true)
	if now := show(); strings.Contains(now, "13:") {
		t.Errorf("the local table is asked early:\n%s", now)
	}
	assertReachable(t, l, all, s.Greeting)
	assertSilent(t, l, all, true)
	others(t, l, other)
	g.Stop()
	site.Down(t)
	if now := show(); now != rules {
		t.Errorf("the rules are\n%s\nand were\n%s", now, rules)
	}
}
