//go:build linux

package netns_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// gatewayName is the gateway's name in the udp-v2 knocks of these tests.
const gatewayName = "gw.example.net"

// methods are all the ways to knock.
func methods() []string {
	return []string{
		protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPPassive, protocol.MethodUDPPassiveSeq,
		protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodUDPv2,
	}
}

// hosts are the protected addresses of these tests by the name of their family.
func hosts() map[string]netip.Addr {
	return map[string]netip.Addr{"v4": netip.MustParseAddr("10.77.0.1"), "v6": netip.MustParseAddr("fd77::1")}
}

// A methodEndpoint takes one method and no other.
type methodEndpoint struct {
	endpoint
	method string
}

// methodEndpoints makes an endpoint for every method in both families, with a
// port of its own: a slot has room for one SYN knock of a client for a port.
func methodEndpoints(upstream string, names ...string) []methodEndpoint {
	var all []methodEndpoint
	port := uint16(8101)
	for family, addr := range hosts() {
		for _, method := range names {
			all = append(all, methodEndpoint{method: method, endpoint: endpoint{
				name: method + "-" + family, mode: "knock-auth", upstream: upstream,
				listen:  netip.AddrPortFrom(addr, port),
				methods: []string{method},
				extra:   []string{"grant: {ttl: 15s, uses: 2}"},
			}})
			port++
		}
	}
	return all
}

// endpointsOf is the endpoints alone.
func endpointsOf(all []methodEndpoint) []endpoint {
	var endpoints []endpoint
	for _, d := range all {
		endpoints = append(endpoints, d.endpoint)
	}
	return endpoints
}

// flags are the command line's for the endpoint's method.
func (d methodEndpoint) flags(more ...string) []string {
	flags := append([]string{"--method", d.method}, more...)
	if d.method == protocol.MethodUDPv2 {
		flags = append(flags, "--gateway", gatewayName)
	}
	return flags
}

// knocking is the section "knock" of a configuration.
func knocking(sequence string) string {
	return fmt.Sprintf("knock: {udp_port: %d, gateway: %s, sequence: {%s}}\n", knockPort, gatewayName, sequence)
}

func TestKnockMethodsAdmit(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, methods()...)
	// Alice knocks and connects in two steps, Carol in one.
	one, two := newCLIClient(t, l.Client, "carol", "carol's secret, thirty-two bytes"), newCLIClient(t, l.Client, "alice", aliceSecret)
	l.NewSite(t, program.get(t), knocking("length: 3")+clients(one, two)+services(endpointsOf(all)...)).Start(t)
	two.assertRefused(t, endpointsOf(all)...)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			session := two.knock(t, d.listen, d.flags()...)
			two.assertReaches(t, d.endpoint, s.Greeting, "--no-knock", "--session", hex.EncodeToString(session))
			two.assertAdmitted(t, d.endpoint, session, s.Greeting)
		})
	}
	two.assertRefused(t, endpointsOf(all)...) // the grants' two uses are spent
	for _, d := range all {
		t.Run(d.name+" in one step", func(t *testing.T) {
			one.assertReaches(t, d.endpoint, s.Greeting, d.flags("--proof")...)
		})
	}
}

func TestKnockMethodsAreDistinct(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodTCPSYN,
		protocol.MethodTCPSYNSeq, protocol.MethodUDPv2)
	alice := newCLIClient(t, l.Client, "alice", aliceSecret)
	l.NewSite(t, program.get(t), knocking("length: 3")+clients(alice)+services(endpointsOf(all)...)).Start(t)
	for _, d := range all {
		for _, method := range methods() {
			if protocol.MethodFamily(method) != d.method {
				alice.knock(t, d.listen, methodEndpoint{endpoint: d.endpoint, method: method}.flags()...)
			}
		}
	}
	alice.assertRefused(t, endpointsOf(all)...)
}

func TestCapturedKnockOpensNothing(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, methods()...)
	alice := newCLIClient(t, l.Client, "alice", aliceSecret)
	gateway := l.NewSite(t, program.get(t), knocking("length: 3")+clients(alice)+services(endpointsOf(all)...)).Start(t)
	tap, echo := l.Client.Capture(lab.Link), l.Attacker.Capture(lab.Link)
	var stolen []lab.Packet
	for _, d := range all {
		// To the service's own number, by which the tap tells one knock from
		// another.
		session := alice.knock(t, d.listen, d.flags("--udp-port", fmt.Sprint(d.listen.Port()))...)
		alice.assertAdmitted(t, d.endpoint, session, s.Greeting)
		knock := knockPackets(tap.Packets(), d.listen)
		if want := parts(d.method); len(knock) != want {
			t.Fatalf("%s: the tap has %d packets of the knock, want %d", d.name, len(knock), want)
		}
		stolen = append(stolen, knock...)
	}
	thief := alice.at(l.Attacker)
	for _, p := range stolen {
		for _, src := range []netip.Addr{thief.host.Addr(p.Dst), p.Src} {
			if err := thief.host.Inject(p.Dst, from(t, p, src)); err != nil {
				t.Fatal(err)
			}
		}
	}
	thief.assertRefused(t, endpointsOf(all)...)
	l.Attacker.Silent(echo.Stop())
	metrics := gateway.Metrics()
	for _, method := range methods() {
		// In both families, and but for SYNs from both addresses: a SYN again
		// from its owner is no replay.
		want := 4 * parts(method)
		if method == protocol.MethodTCPSYN || method == protocol.MethodTCPSYNSeq {
			want = 2
		}
		sample := fmt.Sprintf("knockgw_knocks_total{method=%q,result=\"replay\"}", method)
		if got := metrics[sample]; got != float64(want) {
			t.Errorf("%s is %v, want %d", sample, got, want)
		}
	}
}

// parts is how many packets a knock of the default sequence length has.
func parts(method string) int {
	sequences := []string{protocol.MethodUDPSeq, protocol.MethodUDPPassiveSeq, protocol.MethodTCPSYNSeq}
	if slices.Contains(sequences, method) {
		return 3
	}
	return 1
}

// knockPackets are the datagrams and the SYNs among packets that went to a
// service and that no connection is begun with: a connection's SYN says its
// MSS, a knock's does not.
func knockPackets(packets []lab.Packet, service netip.AddrPort) []lab.Packet {
	var knock []lab.Packet
	for _, p := range packets {
		if p.Dst != service.Addr() {
			continue
		}
		u, tcp := p.UDP(), p.TCP()
		isMSS := func(o layers.TCPOption) bool { return o.OptionType == layers.TCPOptionKindMSS }
		switch {
		case u != nil && uint16(u.DstPort) == service.Port():
		case tcp != nil && uint16(tcp.DstPort) == service.Port() && tcp.SYN && !slices.ContainsFunc(tcp.Options, isMSS):
		default:
			continue
		}
		knock = append(knock, p)
	}
	return knock
}

// from is a captured datagram or SYN as another host would send it.
func from(t *testing.T, p lab.Packet, src netip.Addr) []byte {
	t.Helper()
	var ip gopacket.NetworkLayer
	switch h := p.NetworkLayer().(type) {
	case *layers.IPv4:
		c := *h
		c.SrcIP, ip = src.AsSlice(), &c
	case *layers.IPv6:
		c := *h
		c.SrcIP, ip = src.AsSlice(), &c
	}
	if u := p.UDP(); u != nil {
		c := *u
		if err := c.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return serialize(t, ip.(gopacket.SerializableLayer), &c, gopacket.Payload(u.Payload))
	}
	c := *p.TCP()
	if err := c.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip.(gopacket.SerializableLayer), &c)
}
