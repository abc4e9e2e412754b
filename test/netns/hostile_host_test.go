//go:build linux

package netns_test

import (
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/doctor"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// A hostileHost is something that may be configured on a gateway's host. Either
// an unauthorized host gets no answer and a client is admitted, or the
// gateway says what is wrong.
type hostileHost struct {
	name, hurt, undo string // commands
	says             string // why the gateway is not ready, or does not start; "" if it copes
	check            string // of doctor, where only that can know
}

// hostileWhileRunning are changes of the host of a gateway that runs.
func hostileWhileRunning() []hostileHost {
	return []hostileHost{
		{name: "a narrower route", hurt: "ip route add 10.77.0.0/25 dev upstream0", undo: "ip route del 10.77.0.0/25"},
		{name: "a narrower route of IPv6", hurt: "ip -6 route add fd77::/96 dev upstream0", undo: "ip -6 route del fd77::/96"},
		{name: "an equal route with a better metric", hurt: "ip route add 10.77.0.0/24 dev upstream0 metric 1", undo: "ip route del 10.77.0.0/24 metric 1"},
		{name: "a route to one host", hurt: "ip route add 10.77.0.1 via 10.1.3.2", undo: "ip route del 10.77.0.1"},
		{name: "a route that rejects", hurt: "ip route add unreachable 10.77.0.0/25", undo: "ip route del unreachable 10.77.0.0/25"},
		{name: "a multipath route", hurt: "ip route add 10.77.0.0/25 nexthop dev upstream0 nexthop dev client0", undo: "ip route del 10.77.0.0/25"},
		{name: "a route of a router advertisement", hurt: "ip -6 route add fd77::/64 dev upstream0 proto ra metric 1", undo: "ip -6 route del fd77::/64 metric 1"},
		{name: "a narrower route in the gateway's table", hurt: "ip route add 10.77.0.0/25 dev upstream0 table 108", undo: "ip route del 10.77.0.0/25 table 108",
			says: "ip route del 10.77.0.0/25 dev upstream0 table 108"},
		{name: "a better metric in the gateway's table", hurt: "ip route add 10.77.0.0/24 dev upstream0 metric 1 table 108", undo: "ip route del 10.77.0.0/24 metric 1 table 108",
			says: "metric 1"},
		{name: "a next hop object in the gateway's table", hurt: "ip nexthop add id 5 dev upstream0 && ip route add 10.77.0.0/25 nhid 5 table 108", undo: "ip nexthop del id 5",
			says: "nhid 5"},
		{name: "a rejection in the gateway's table", hurt: "ip -6 route add unreachable fd77::/96 table 108", undo: "ip -6 route del unreachable fd77::/96 table 108",
			says: "ICMP"},
		{name: "a throw route in the gateway's table", hurt: "ip route add throw 10.77.0.0/25 table 108", undo: "ip route del throw 10.77.0.0/25 table 108"},
		{name: "a rule to another table", hurt: "ip route add 10.77.0.0/16 dev client0 table 200 && ip rule add pref 100 lookup 200", undo: "ip rule del pref 100; ip route flush table 200"},
		{name: "a default route by the upstreams' interface", hurt: "ip route add default dev upstream0 table 200 && ip rule add pref 100 iif lo lookup 200", undo: "ip rule del pref 100; ip route flush table 200",
			says: "iif upstream0"},
		{name: "a rule by interface that rejects", hurt: "ip rule add pref 1 iif attacker0 unreachable", undo: "ip rule del pref 1"},
		{name: "a rule of equal priority", hurt: "ip rule add pref 0 to 10.77.0.0/24 prohibit", undo: "ip rule del pref 0 to 10.77.0.0/24 prohibit"},
		{name: "a rule by mark", hurt: "ip rule add pref 5 fwmark 1 lookup main", undo: "ip rule del pref 5"},
		{name: "a rule of a VPN", hurt: "ip route add 10.77.0.0/16 dev client0 table 51820 && ip rule add pref 6 not fwmark 51820 lookup 51820", undo: "ip rule del pref 6; ip route flush table 51820"},
		{name: "a protected address on the loopback", hurt: "ip addr add 10.77.0.1/32 dev lo", undo: "ip addr del 10.77.0.1/32 dev lo"},
		{name: "a protected address of IPv6 on the loopback", hurt: "ip -6 addr add fd77::1/128 dev lo nodad", undo: "ip -6 addr del fd77::1/128 dev lo"},
		{name: "a protected network on an interface", hurt: "ip addr add 10.77.0.5/24 dev upstream0", undo: "ip addr del 10.77.0.5/24 dev upstream0"},
		{name: "another address in the own subnet", hurt: "ip addr add 10.1.3.77/24 dev upstream0", undo: "ip addr del 10.1.3.77/24 dev upstream0"},
		{name: "proxy ARP of an interface", hurt: "sysctl -qw net.ipv4.conf.attacker0.proxy_arp=1", undo: "sysctl -qw net.ipv4.conf.attacker0.proxy_arp=0"},
		{name: "a proxied neighbour", hurt: "ip neigh add proxy 10.77.0.1 dev attacker0", undo: "ip neigh del proxy 10.77.0.1 dev attacker0"},
		{name: "a proxied neighbour of IPv6", hurt: "sysctl -qw net.ipv6.conf.attacker0.proxy_ndp=1 && ip -6 neigh add proxy fd77::1 dev attacker0", undo: "ip -6 neigh del proxy fd77::1 dev attacker0"},
		{name: "forwarding off", hurt: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", says: "sysctl -w net.ipv4.ip_forward=1"},
		{name: "forwarding of IPv6 off", hurt: "sysctl -qw net.ipv6.conf.all.forwarding=0", undo: "sysctl -qw net.ipv6.conf.all.forwarding=1", says: "sysctl -w net.ipv6.conf.all.forwarding=1"},
		{name: "forwarding of the device off", hurt: "sysctl -qw net.ipv4.conf.knock0.forwarding=0", undo: "sysctl -qw net.ipv4.conf.knock0.forwarding=1", says: "net.ipv4.conf.knock0.forwarding=1"},
		{name: "strict filtering of sources", hurt: "sysctl -qw net.ipv4.conf.all.rp_filter=1", undo: "sysctl -qw net.ipv4.conf.all.rp_filter=0"},
		{name: "loose filtering of sources", hurt: "sysctl -qw net.ipv4.conf.all.rp_filter=2", undo: "sysctl -qw net.ipv4.conf.all.rp_filter=0"},
		{name: "own sources accepted", hurt: "sysctl -qw net.ipv4.conf.all.accept_local=1", undo: "sysctl -qw net.ipv4.conf.all.accept_local=0"},
		{name: "a firewall that drops what it does not know", hurt: "iptables -P FORWARD DROP", undo: "iptables -P FORWARD ACCEPT", check: "firewall"},
		{name: "a firewall that tracks connections", hurt: "nft 'add table inet d; add chain inet d f { type filter hook forward priority 0; }; add rule inet d f ct state invalid drop'", undo: "nft delete table inet d"},
		// Where root deletes what is the gateway's own, the host's subnet is
		// the host's until it is restored: for less than a second.
		{name: "a flush of the rules", hurt: "ip rule flush && ip rule add lookup main pref 32766 && ip rule add lookup default pref 32767", undo: "true"},
		{name: "the gateway's rule deleted", hurt: "ip rule del pref 0 not iif lo lookup 108; sleep 1", undo: "true"},
		{name: "the gateway's routes deleted", hurt: "ip route flush proto 107 table 108; ip -6 route flush proto 107 table 108; sleep 1", undo: "true"},
	}
}

// hostileAtStart are hosts on which a gateway is started.
func hostileAtStart() []hostileHost {
	return []hostileHost{
		{name: "a rule that comes first", hurt: "ip rule add pref 0 lookup main", undo: "ip rule del pref 0 lookup main", says: "bypasses the gateway"},
		{name: "a rule that drops comes first", hurt: "ip rule add pref 0 to 10.77.0.0/24 blackhole", undo: "ip rule del pref 0 to 10.77.0.0/24 blackhole", says: "drops packets for"},
		{name: "a rule by interface comes first", hurt: "ip rule add pref 0 iif attacker0 prohibit", undo: "ip rule del pref 0 iif attacker0 prohibit", says: "iif attacker0"},
		{name: "a protected address on the loopback", hurt: "ip addr add 10.77.0.1/32 dev lo", undo: "ip addr del 10.77.0.1/32 dev lo", says: "is an address of this host"},
		{name: "a narrower route in the gateway's table", hurt: "ip route add 10.77.0.0/25 dev upstream0 table 108", undo: "ip route del 10.77.0.0/25 table 108", says: "10.77.0.0/25"},
		{name: "upstreams behind the default route", hurt: "ip route add default via 10.1.3.9", undo: "ip route del default", says: "iif upstream0"},
		{name: "forwarding off", hurt: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", says: "net.ipv4.ip_forward"},
		{name: "a narrower route", hurt: "ip route add 10.77.0.0/25 dev upstream0", undo: "ip route del 10.77.0.0/25"},
	}
}

// hostileLab protects a routed prefix and the gateway's own subnet, in both
// families.
func hostileLab(t *testing.T) (*lab.Lab, *lab.Site, *lab.LineServer, []endpoint) {
	t.Helper()
	lab.RequireTools(t, "nft", "iptables")
	l, site, s, all := subnetSite(t)
	device := []string{"upstream_device: " + upstreamDevice}
	routed := []endpoint{
		{name: "routed-v4", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:7000"), upstream: "10.1.3.2:7000", extra: device},
		{name: "routed-v6", mode: "knock-auth", listen: netip.MustParseAddrPort("[fd77::1]:7000"), upstream: "[fd01:3::2]:7000", extra: device},
	}
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "services: [", "services: [routed-v4, routed-v6, ", 1)
	site.Write(t, changed+strings.TrimPrefix(services(routed...), "services:\n"))
	return l, site, s, append(all, routed...)
}

func hostileAddrs() []netip.Addr {
	return append(subnetAddrs(), netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.5"), netip.MustParseAddr("10.77.0.200"), netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::5"))
}

// waitReadiness waits until the gateway is ready or says what is wrong.
func waitReadiness(t *testing.T, l *lab.Lab, says string) {
	t.Helper()
	for end := time.Now().Add(tried); ; time.Sleep(sampleEvery) {
		status, why := readiness(t, l)
		if says == "" && status == http.StatusOK || says != "" && status != http.StatusOK && strings.Contains(why, says) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("/readyz says %d, %s; want %q", status, why, says)
			return
		}
	}
}

func TestGatewayToleratesHostileHost(t *testing.T) {
	t.Parallel()
	l, site, s, all := hostileLab(t)
	site.Start(t)
	for _, c := range hostileWhileRunning() {
		t.Run(c.name, func(t *testing.T) {
			l.Gateway.MustRun("sh", "-ec", c.hurt)
			if c.says != "" {
				waitReadiness(t, l, c.says)
			} else {
				assertSilence(t, l, hostileAddrs()...)
				waitReadiness(t, l, "")
				if c.check == "" {
					assertReachable(t, l, all, s.Greeting)
				} else if f := diagnosis(t, site, 0)[c.check]; f.Level != doctor.Warn {
					t.Errorf("doctor says %+v", f)
				}
			}
			l.Gateway.MustRun("sh", "-c", c.undo)
			waitReadiness(t, l, "")
		})
	}
}

func TestGatewayStartsOnHostileHostOrReports(t *testing.T) {
	t.Parallel()
	l, site, s, all := hostileLab(t)
	for _, c := range hostileAtStart() {
		t.Run(c.name, func(t *testing.T) {
			site.Down(t) // rules of the start before would come first
			l.Gateway.MustRun("sh", "-ec", c.hurt)
			defer l.Gateway.MustRun("sh", "-c", c.undo)
			run := site.Run()
			g := l.Gateway.StartCommand(t, l.Gateway.Command(t.Context(), run[0], run[1:]...))
			err := g.WaitLog(withTimeout(t, tried), func(log string) bool { return strings.Contains(log, "msg=ready") || strings.Contains(log, "not ready") })
			if err != nil {
				const unavailable = 69
				code, _ := g.Wait(withTimeout(t, admitTime))
				if code != unavailable || c.says == "" || !strings.Contains(g.Log(), c.says) {
					t.Errorf("it ended with %d: %s", code, g.Log())
				}
				return
			}
			waitReadiness(t, l, c.says)
			if c.says == "" {
				assertSilence(t, l, hostileAddrs()...)
				assertReachable(t, l, all, s.Greeting)
			}
			g.Kill()
			<-g.Ended()
		})
	}
}
