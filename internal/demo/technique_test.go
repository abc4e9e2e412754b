package demo

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/netlab"
)

func TestTechniqueStatesMatchNmap(t *testing.T) {
	for _, c := range []struct {
		technique technique
		states    map[answer]state
	}{
		{connectScan, map[answer]state{silence: filtered, synAck: open, reset: closed, otherError: filtered}},
		{synScan, map[answer]state{silence: filtered, synAck: open, reset: closed, portUnreachable: filtered, otherError: filtered}},
		{ackScan, map[answer]state{silence: filtered, reset: unfiltered, otherError: filtered}},
		{finScan, map[answer]state{silence: openFiltered, reset: closed, otherError: filtered}},
		{udpScan, map[answer]state{silence: openFiltered, datagram: open, portUnreachable: closed, otherError: filtered}},
		{echoScan, map[answer]state{silence: noReply, echoReply: up, otherError: noReply}},
	} {
		for a, want := range c.states {
			if got := c.technique.conclude(a); got != want {
				t.Errorf("%s, answer %d: %s, want %s", c.technique, a, got, want)
			}
		}
	}
}

func TestMatchFindsProbe(t *testing.T) {
	for _, c := range []struct{ scanner, target string }{{"10.1.2.2", "10.77.0.1"}, {"fd01:2::2", "fd77::1"}} {
		scanner, target := netip.MustParseAddr(c.scanner), netip.MustParseAddr(c.target)
		proto := map[bool]uint8{true: netlab.ProtoICMP, false: netlab.ProtoICMPv6}[target.Is4()]
		echo := map[bool]uint8{true: netlab.ICMP4EchoReply, false: netlab.ICMP6EchoReply}[target.Is4()]
		from := func(p probe) netlab.Frame {
			return netlab.Frame{
				Proto: netlab.ProtoTCP,
				Src:   netip.AddrPortFrom(target, p.port),
				Dst:   netip.AddrPortFrom(scanner, p.technique.sourcePort()),
			}
		}
		quoting := func(p probe, a answer) netlab.Frame {
			q, ok := netlab.ParseFrame(asFrame(icmpError(p.packet(scanner), a)))
			if !ok || q.Quoted == nil {
				t.Fatalf("an ICMP error about %v does not parse", p)
			}
			return q
		}
		syn, ack, fin := probe{synScan, target, 80}, probe{ackScan, target, 81}, probe{finScan, target, 82}
		udp, ping := probe{udpScan, target, 53}, probe{echoScan, target, 0}
		for _, c := range []struct {
			what   string
			packet netlab.Frame
			probe  probe
			answer answer
		}{
			{"SYN-ACK", with(from(syn), func(p *netlab.Frame) { p.Flags = netlab.FlagSYN | netlab.FlagACK }), syn, synAck},
			{"RST to an ACK", with(from(ack), func(p *netlab.Frame) { p.Flags = netlab.FlagRST }), ack, reset},
			{"RST-ACK to a FIN", with(from(fin), func(p *netlab.Frame) { p.Flags = netlab.FlagRST | netlab.FlagACK }), fin, reset},
			{"a datagram", with(from(udp), func(p *netlab.Frame) { p.Proto = netlab.ProtoUDP }), udp, datagram},
			{"an echo's reply", with(from(ping), func(p *netlab.Frame) { p.Proto, p.ICMPType = proto, echo }), ping, echoReply},
			{"port unreachable", quoting(udp, portUnreachable), udp, portUnreachable},
			{"another error about a SYN", quoting(syn, otherError), syn, otherError},
			{"another error about an echo", quoting(ping, otherError), ping, otherError},
		} {
			p, a, ok := match(c.packet)
			if !ok || p != c.probe || a != c.answer {
				t.Errorf("%s from %v: answer %d to %v (%v), want %d to %v", c.what, target, a, p, ok, c.answer, c.probe)
			}
		}
		stray := from(probe{techniqueCount, target, 80})
		stray.Flags = netlab.FlagRST
		if p, _, ok := match(stray); ok {
			t.Errorf("a packet to a port without a technique matches %v", p)
		}
	}
}

func with(p netlab.Frame, change func(*netlab.Frame)) netlab.Frame {
	change(&p)
	return p
}

func TestFindingsCountPortsPerState(t *testing.T) {
	a := netip.MustParseAddr("10.77.0.1")
	f := findings{
		{synScan, a, 1}: filtered, {synScan, a, 2}: filtered, {synScan, a, 3}: open,
		{udpScan, a, 1}: openFiltered, {echoScan, a, 0}: up,
	}
	for technique, want := range map[technique]string{
		synScan: "1 open, 2 filtered", udpScan: "1 open|filtered", echoScan: "up", finScan: "",
	} {
		if got := f.summary(technique, a); got != want {
			t.Errorf("%s: %q, want %q", technique, got, want)
		}
	}
	f = findings{{synScan, a, 1}: filtered, {udpScan, a, 1}: openFiltered, {echoScan, a, 0}: noReply}
	if got := f.answers(); got != "" {
		t.Errorf("silence is taken for an answer: %s", got)
	}
	f[probe{ackScan, a, 9}] = unfiltered
	if got, want := f.answers(), "TCP ACK says unfiltered of 10.77.0.1:9"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
