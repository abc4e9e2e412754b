//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// hiddenPort is the one of the gateway's own that the tests hide, and
	// otherPort one that they do not.
	hiddenPort, otherPort = 22, 23
	// own4 and own6 are the gateway's own addresses on the link to the upstream.
	own4, own6 = "10.1.3.1", "fd01:3::1"
)

// ownEndpoints hides a port of the gateway's own addresses, before a service
// that listens at its loopback.
func ownEndpoints(upstream string) []endpoint {
	var all []endpoint
	for _, a := range []string{own4, own6} {
		family := "v4"
		if strings.Contains(a, ":") {
			family = "v6"
		}
		all = append(all,
			endpoint{name: "own-" + family, mode: "knock-auth", upstream: upstream,
				listen: netip.AddrPortFrom(netip.MustParseAddr(a), hiddenPort)})
	}
	return all
}

// newHostPorts makes a site that hides its own ports, with a service at the
// loopback, and one at a port that is not hidden.
func newHostPorts(t *testing.T) (l *lab.Lab, site *lab.Site, s, other *lab.LineServer, all []endpoint) {
	t.Helper()
	l = lab.New(t)
	s = l.Gateway.ServeLines(fmt.Sprintf("127.0.0.1:%d", hiddenPort))
	other = l.Gateway.ServeLines(fmt.Sprintf("[::]:%d", otherPort))
	all = ownEndpoints(s.Addr)
	l.TUN = fmt.Sprintf("  local: [%q, %q]\n", all[0].listen, all[1].listen)
	return l, l.NewSite(t, program.get(t), configuration(all...)), s, other, all
}

// answersOf are the packets of a capture that a hidden port or the knock port
// sent, and the errors of ICMP, of any source.
func answersOf(packets []lab.Packet, own netip.AddrPort) []lab.Packet {
	var answers []lab.Packet
	for _, p := range packets {
		tcp, udp := p.TCP(), p.UDP()
		switch {
		case isError(p),
			p.Src == own.Addr() && tcp != nil && uint16(tcp.SrcPort) == own.Port(),
			p.Src == own.Addr() && udp != nil && (uint16(udp.SrcPort) == own.Port() || uint16(udp.SrcPort) == knockPort):
			answers = append(answers, p)
		}
	}
	return answers
}

// isError reports whether a packet is an ICMP message of either family other
// than neighbour discovery.
func isError(p lab.Packet) bool {
	icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	return p.Layer(layers.LayerTypeICMPv4) != nil || ok && icmp.TypeCode.Type() < 128
}

// prying is what an attacker may send to a hidden port: every combination of
// flags, whole and in fragments, and datagrams to it and to the knock port.
func prying(t *testing.T, from *lab.Host, own netip.AddrPort, udp bool) [][]byte {
	t.Helper()
	var all [][]byte
	src := netip.AddrPortFrom(from.Addr(own.Addr()), 40001)
	for _, flags := range []layers.TCP{{SYN: true}, {ACK: true}, {FIN: true}, {}, {SYN: true, ACK: true}, {RST: true, ACK: true}} {
		flags.Seq, flags.Window = 1000, 1024
		whole := tcpSegment(t, src, own, flags, []byte("something to cut"))
		all = append(all, whole)
		for _, offsets := range [][]int{{0, 8}, {0, 16}, {0, 24}} {
			all = append(all, cut(t, whole, offsets...)...)
		}
		if own.Addr().Is6() {
			all = append(all, extended(t, whole, 14), extended(t, whole, 15), extended(t, whole, 16), extended(t, whole, 40))
			// Fragment headers that cut nothing, one in another, and behind
			// more headers than rules look through.
			atomic := cut(t, whole, 0)[0]
			all = append(all, atomic, cut(t, atomic, 0)[0], cut(t, extended(t, whole, 1), 0)[0])
			all = append(all, extended(t, atomic, 14), extended(t, atomic, 15), extended(t, atomic, 16), cut(t, extended(t, whole, 16), 0)[0])
		}
	}
	if !udp {
		return all
	}
	for _, port := range []uint16{own.Port(), knockPort} {
		datagram := udpDatagram(t, src, netip.AddrPortFrom(own.Addr(), port), []byte("something to cut, too"))
		all = append(all, datagram)
		all = append(all, cut(t, datagram, 0, 8)...)
		all = append(all, cut(t, datagram, 0, 16)...)
	}
	return all
}

// extended puts n extension headers, options for the destination that are
// padding, before what an IPv6 packet carries.
func extended(t *testing.T, packet []byte, n int) []byte {
	t.Helper()
	const header6 = 40
	next, payload := packet[6], packet[header6:]
	for range n {
		payload = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload...)
		next = byte(layers.IPProtocolIPv6Destination)
	}
	src, _ := netip.AddrFromSlice(packet[8:24])
	dst, _ := netip.AddrFromSlice(packet[24:40])
	return rawIP(t, src, dst, layers.IPProtocol(next), payload)
}

func udpDatagram(t *testing.T, src, dst netip.AddrPort, payload []byte) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	ip := header(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip.(gopacket.SerializableLayer), udp, gopacket.Payload(payload))
}

// assertSilent fails the test unless an attacker that tries everything at the
// hidden ports gets no answer. What a fragment of a datagram meets is the
// guard's, which is there while the gateway runs.
func assertSilent(t *testing.T, l *lab.Lab, all []endpoint, running bool) {
	t.Helper()
	for _, d := range all {
		capture := l.Attacker.Capture(lab.Link)
		for _, p := range prying(t, l.Attacker, d.listen, running) {
			if err := l.Attacker.Inject(d.listen.Addr(), p); err != nil {
				t.Fatal(err)
			}
		}
		if !running { // whole datagrams meet the blackhole
			for _, port := range []uint16{d.listen.Port(), knockPort} {
				src := netip.AddrPortFrom(l.Attacker.Addr(d.listen.Addr()), 40001)
				inject(t, l.Attacker, d.listen.Addr(), udpDatagram(t, src, netip.AddrPortFrom(d.listen.Addr(), port), []byte("a datagram")))
			}
		}
		time.Sleep(300 * time.Millisecond)
		packets := capture.Stop()
		if lab.Sent(packets, l.Attacker.Addr(d.listen.Addr()), netip.PrefixFrom(d.listen.Addr(), d.listen.Addr().BitLen())) == 0 {
			t.Error("silence proves nothing: no packet was sent")
		}
		for _, p := range answersOf(packets, d.listen) {
			t.Errorf("the attacker was answered by %v (gateway running: %v):\n%v", d.listen, running, p)
			break
		}
	}
}

// scanned is what nmap says of a port of the gateway's own.
func scanned(t *testing.T, from *lab.Host, addr netip.Addr, port int, flags ...string) string {
	t.Helper()
	s := scan{flags: flags, v6: addr.Is6(), ports: strconv.Itoa(port)}
	states := s.run(t, from, addr)
	var all []string
	for state := range states {
		all = append(all, state)
	}
	slices.Sort(all)
	return strings.Join(all, "|")
}

// others fails the test unless the ports of the gateway that are not hidden go
// on working.
func others(t *testing.T, l *lab.Lab, s *lab.LineServer) {
	t.Helper()
	for _, a := range []string{own4, own6} {
		conn, err := l.Attacker.Dial(withTimeout(t, admitTime), "tcp", netip.AddrPortFrom(netip.MustParseAddr(a), otherPort).String())
		if err != nil {
			t.Errorf("a port that is not hidden: %v", err)
			continue
		}
		if got := ask(t, conn, "hello"); got != s.Greeting {
			t.Errorf("a port that is not hidden said %q", got)
		}
		closeConn(t, conn)
		if got := scanned(t, l.Attacker, netip.MustParseAddr(a), 24, "-sS"); got != "closed" {
			t.Errorf("a port of %s without a listener is %s, want closed", a, got)
		}
	}
}

func TestHostPortIsHidden(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l, site, s, other, all := newHostPorts(t)
	before := host(l)
	gateway := site.Start(t)
	hidden := func(t *testing.T, running bool) {
		t.Helper()
		assertSilent(t, l, all, running)
		for _, d := range all {
			for _, flags := range [][]string{{"-sS"}, {"-sT"}, {"-sA"}, {"-sS", "-f"}} {
				if d.listen.Addr().Is6() && slices.Contains(flags, "-f") {
					continue // nmap has no fragments there; mum has
				}
				if got := scanned(t, l.Attacker, d.listen.Addr(), hiddenPort, flags...); got != "filtered" {
					t.Errorf("nmap %v finds %v %s, want filtered", flags, d.listen, got)
				}
			}
			if got := scanned(t, l.Attacker, d.listen.Addr(), knockPort, "-sU"); got != "open|filtered" {
				t.Errorf("nmap finds the knock port of %v %s, want open|filtered", d.listen.Addr(), got)
			}
		}
		others(t, l, other)
	}
	visits := func(t *testing.T) {
		t.Helper()
		for _, d := range all {
			if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("a client that knocks is let in", visits)
	t.Run("an attacker finds nothing", func(t *testing.T) { hidden(t, true) })
	t.Run("it stays hidden after a crash", func(t *testing.T) {
		gateway.Kill()
		hidden(t, false)
	})
	t.Run("a second start finds everything as it was, and so does an orderly stop", func(t *testing.T) {
		gateway := site.Start(t)
		visits(t)
		hidden(t, true)
		gateway.Stop()
		hidden(t, false)
	})
	t.Run("down gives it back", func(t *testing.T) {
		site.Down(t)
		assertUnchanged(t, l, before)
		for _, d := range all {
			if got := scanned(t, l.Attacker, d.listen.Addr(), hiddenPort, "-sS"); got != "closed" {
				t.Errorf("%v is %s, want closed", d.listen, got)
			}
		}
	})
}

// Where the kernel looks strictly for the way back, and only the interface to
// the outside forwards.
func TestHostPortWithoutForwardingIsHidden(t *testing.T) {
	t.Parallel()
	l, site, s, _, all := newHostPorts(t)
	l.Gateway.Sysctl("ipv4/ip_forward", "0")
	l.Gateway.Sysctl("ipv4/conf/client0/forwarding", "1")
	l.Gateway.Sysctl("ipv4/conf/all/rp_filter", "1")
	l.Gateway.Sysctl("ipv4/conf/client0/rp_filter", "1")
	// As the manual says of a host that is no router: from the outside
	// only its own addresses are reached.
	for _, family := range []string{"-4", "-6"} {
		l.Gateway.MustRun("ip", family, "rule", "add", "pref", "100", "iif", "client0", "blackhole")
	}
	site.Start(t)
	for name, want := range map[string]string{"accept_local": "1", "rp_filter": "2", "forwarding": "1"} {
		if got := l.Gateway.Setting("ipv4/conf/" + lab.Tunnel + "/" + name); got != want {
			t.Errorf("%s of the device is %s, want %s", name, got, want)
		}
	}
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
		behind := netip.AddrPortFrom(l.Upstream.Addr(d.listen.Addr()), 7000)
		l.Upstream.Listen("tcp", behind.String())
		if conn, err := l.Client.Dial(withTimeout(t, refuseTime), "tcp", behind.String()); err == nil {
			t.Errorf("the host carries packets to %v", conn.RemoteAddr())
			closeConn(t, conn)
		}
	}
}

func TestHostPortInUseIsNotHidden(t *testing.T) {
	t.Parallel()
	l, site, _, _, all := newHostPorts(t)
	l.Gateway.Listen("tcp", all[0].listen.String())
	before := host(l)
	run := site.Run()
	out, err := l.Gateway.Run(withTimeout(t, admitTime), run[0], run[1:]...)
	if lab.ExitCode(err) != 1 || !strings.Contains(out, "another process listens on it") {
		t.Errorf("run says %v\n%s", err, out)
	}
	site.Down(t)
	assertUnchanged(t, l, before)
}

// While it starts, stops and is given back, over and over, the hidden port is
// silent: the attacker's SYNs never stop.
func TestHostPortNeverAnswers(t *testing.T) {
	t.Parallel()
	l, site, _, _, all := newHostPorts(t)
	site.Start(t).Kill()
	for _, d := range all {
		capture := l.Attacker.Capture(lab.Link)
		over, done := make(chan struct{}), make(chan struct{})
		syn := tcpSegment(t, netip.AddrPortFrom(l.Attacker.Addr(d.listen.Addr()), 40001), d.listen, layers.TCP{SYN: true, Seq: 1, Window: 1024}, nil)
		packets := append(cut(t, tcpSegment(t, netip.AddrPortFrom(l.Attacker.Addr(d.listen.Addr()), 40002), d.listen,
			layers.TCP{SYN: true, Seq: 1, Window: 1024}, []byte("something to cut")), 0, 8), syn)
		go func() {
			defer close(done)
			for {
				select {
				case <-over:
					return
				default:
				}
				for _, p := range packets {
					_ = l.Attacker.Inject(d.listen.Addr(), p)
				}
				time.Sleep(200 * time.Microsecond)
			}
		}()
		for i := range 4 {
			g := site.Start(t)
			if i%2 == 0 {
				g.Kill()
			} else {
				g.Stop()
			}
		}
		close(over)
		<-done
		for _, p := range answersOf(capture.Stop(), d.listen) {
			t.Errorf("the host answered:\n%v", p)
			break
		}
	}
}
