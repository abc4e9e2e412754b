//go:build linux

package netns_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// The network of the upstream, which is the gateway's own subnet, too.
const (
	subnet4, subnet6 = "10.1.3.0/24", "fd01:3::/64"
	upstreamDevice   = "upstream0"
)

// subnetSite protects the upstream's whole network, whose hosts are reached at
// the addresses that they have.
func subnetSite(t *testing.T) (*lab.Lab, *lab.Site, *lab.LineServer, []endpoint) {
	t.Helper()
	l := lab.New(t)
	s := l.Upstream.ServeLines("[::]:7000")
	var all []endpoint
	for name, a := range map[string]netip.Addr{"subnet-v4": l.Upstream.Addr4, "subnet-v6": l.Upstream.Addr6} {
		all = append(all, endpoint{name: name, mode: "knock-auth", listen: netip.AddrPortFrom(a, 7000), upstream: "original:",
			extra: []string{"upstream_device: " + upstreamDevice}})
	}
	site := l.NewSite(t, program.get(t), configuration(all...))
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	site.Write(t, strings.NewReplacer(
		"routes: [", "routes: ["+subnet4+", \""+subnet6+"\", ",
		`listen: "10.1.3.2:7000"`, `listen: "`+subnet4+`:7000"`,
		`listen: "[fd01:3::2]:7000"`, `listen: "[`+subnet6+`]:7000"`,
		`"10.1.3.2:9"`, `"10.1.1.2:9"`, // bob's
	).Replace(string(text)))
	return l, site, s, all
}

// tryAll sends from the attacker what draws an answer from any host that is
// there: a SYN, an ACK, a datagram and an echo request to each address.
func tryAll(t *testing.T, from *lab.Host, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		for _, port := range []uint16{7000, 9} {
			src, dst := netip.AddrPortFrom(from.Addr(a), 40001), netip.AddrPortFrom(a, port)
			inject(t, from, a,
				tcpSegment(t, src, dst, layers.TCP{SYN: true, Seq: 1, Window: 1024}, nil),
				tcpSegment(t, src, dst, layers.TCP{ACK: true, Seq: 1, Ack: 1, Window: 1024}, nil),
				udpDatagram(t, src, dst, []byte("hello")))
		}
		echo := byte(layers.ICMPv4TypeEchoRequest)
		if a.Is6() {
			echo = layers.ICMPv6TypeEchoRequest
		}
		inject(t, from, a, icmpPacket(t, from.Addr(a), a, echo))
	}
}

// assertSilence fails the test if the attacker gets any answer.
func assertSilence(t *testing.T, l *lab.Lab, addrs ...netip.Addr) {
	t.Helper()
	capture := l.Attacker.Capture(lab.Link)
	tryAll(t, l.Attacker, addrs...)
	time.Sleep(200 * time.Millisecond)
	packets := capture.Stop()
	if n := lab.Sent(packets, l.Attacker.Addr4, netip.PrefixFrom(netip.IPv4Unspecified(), 0)); n == 0 {
		t.Error("silence proves nothing: no packet was sent")
	}
	l.Attacker.Silent(packets)
}

// subnetAddrs are those of the gateway, the upstream, no host, and all hosts.
func subnetAddrs() []netip.Addr {
	var all []netip.Addr
	for _, a := range []string{"10.1.3.0", own4, "10.1.3.2", "10.1.3.77", "10.1.3.255", "fd01:3::", own6, "fd01:3::2", "fd01:3::77"} {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// A gateway in front of its own subnet: the kernel's connected route and its
// local addresses would win over the gateway's routes.
func TestGatewayHidesItsOwnSubnet(t *testing.T) {
	t.Parallel()
	l, site, s, all := subnetSite(t)
	before := host(l)
	for _, filter := range []string{"0", "1"} {
		l.Gateway.Sysctl("ipv4/conf/all/rp_filter", filter)
		gateway := site.Start(t)
		if status, why := readiness(t, l); status != 200 {
			t.Errorf("%d, %s", status, why)
		}
		assertSilence(t, l, subnetAddrs()...)
		assertReachable(t, l, all, s.Greeting)
		gateway.Stop()
		assertSilence(t, l, subnetAddrs()...)
	}
	l.Gateway.Sysctl("ipv4/conf/all/rp_filter", "0")
	site.Down(t)
	assertUnchanged(t, l, before)
}

// The host itself, and hosts of the subnet, reach each other as before.
func TestGatewayLeavesOwnSubnetToInsideHosts(t *testing.T) {
	t.Parallel()
	l, site, s, _ := subnetSite(t)
	l.Gateway.ServeLines("[::]:7001")
	site.Start(t)
	for _, a := range []netip.Addr{l.Upstream.Addr4, l.Upstream.Addr6} {
		conn, err := l.Gateway.Dial(withTimeout(t, admitTime), "tcp", netip.AddrPortFrom(a, 7000).String())
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, conn, "hello"); got != s.Greeting {
			t.Errorf("%q", got)
		}
		closeConn(t, conn)
	}
	for _, from := range []*lab.Host{l.Upstream, l.Gateway} {
		for _, a := range []string{own4, own6} {
			conn, err := from.Dial(withTimeout(t, admitTime), "tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 7001).String())
			if err != nil {
				t.Errorf("the host's own address: %v", err)
				continue
			}
			closeConn(t, conn)
		}
	}
}

// Where the upstreams' interface leads to other hosts, too, these would reach
// the subnet directly: the gateway does not start.
func TestGatewayRefusesUplinkSubnet(t *testing.T) {
	t.Parallel()
	l, site, _, _ := subnetSite(t)
	l.Gateway.MustRun("ip", "route", "add", "default", "via", "10.1.3.9", "dev", upstreamDevice)
	run := site.Run()
	out, err := l.Gateway.Run(withTimeout(t, admitTime), run[0], run[1:]...)
	const unavailable = 69
	if lab.ExitCode(err) != unavailable || !strings.Contains(out, "bypass the gateway") || !strings.Contains(out, "iif "+upstreamDevice) {
		t.Errorf("run says %v\n%s", err, out)
	}
}
