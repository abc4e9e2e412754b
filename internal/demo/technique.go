package demo

import (
	"net/netip"

	"github.com/knockgw/knockgw/internal/netlab"
)

// A technique is a way to probe a port.
type technique uint8

// The techniques: nmap's -sT, -sS, -sA, -sF, -sU and -PE.
const (
	connectScan technique = iota // by the kernel's own connect()
	synScan
	ackScan
	finScan
	udpScan
	echoScan // asks the address, not a port
	techniqueCount
)

// String is the technique's name in the report.
func (t technique) String() string {
	return [techniqueCount]string{"connect()", "TCP SYN", "TCP ACK", "TCP FIN", "UDP", "ICMP echo"}[t]
}

// An answer is the reply to a probe.
type answer uint8

// The answers.
const (
	silence answer = iota
	synAck
	reset
	datagram        // of UDP
	echoReply       // of ICMP
	portUnreachable // ICMP: the port has no listener
	otherError      // any other ICMP error, from a router or firewall
)

// A state is what a scanner concludes about a port.
type state string

// The states, as nmap names them (its manual's chapter on port scanning); up
// and noReply are about an address.
const (
	open         state = "open"
	closed       state = "closed"
	unfiltered   state = "unfiltered"
	filtered     state = "filtered"
	openFiltered state = "open|filtered"
	up           state = "up"
	noReply      state = "no reply"
)

// states lists them all, the most informative first.
func states() []state { return []state{open, closed, unfiltered, up, filtered, openFiltered, noReply} }

// conclude returns the state that an answer means. An open port does not answer
// a FIN or an unknown datagram either, so silence there is open|filtered, as
// for nmap.
func (t technique) conclude(a answer) state {
	switch t {
	case connectScan, synScan:
		switch a {
		case synAck:
			return open
		case reset:
			return closed
		}
	case ackScan:
		if a == reset {
			return unfiltered
		}
	case finScan:
		switch a {
		case silence:
			return openFiltered
		case reset:
			return closed
		}
	case udpScan:
		switch a {
		case silence:
			return openFiltered
		case datagram:
			return open
		case portUnreachable:
			return closed
		}
	case echoScan:
		if a == echoReply {
			return up
		}
		return noReply
	}
	return filtered
}

// A probe is one packet, or one connect(); port is 0 for echoScan.
type probe struct {
	technique technique
	addr      netip.Addr
	port      uint16
}

// sourcePort returns the port from which a technique probes, so that an answer
// identifies its probe. Such ports are below those that kernels assign to
// connections (32768 and up), so that no probe looks like part of one.
func (t technique) sourcePort() uint16 { return firstSourcePort + uint16(t) }

const firstSourcePort = 20000

// techniqueFrom returns the technique that probes from a port.
func techniqueFrom(port uint16) (technique, bool) {
	if port < firstSourcePort || port >= firstSourcePort+uint16(techniqueCount) {
		return 0, false
	}
	return technique(port - firstSourcePort), true
}

// match returns the probe that a packet answers, and the answer; false: it
// answers none.
func match(f netlab.Frame) (probe, answer, bool) {
	t, ours := techniqueFrom(f.Dst.Port())
	asked := probe{t, f.Src.Addr(), f.Src.Port()}
	switch {
	case f.Proto == netlab.ProtoTCP && f.HasFlags(netlab.FlagSYN|netlab.FlagACK):
		return asked, synAck, ours
	case f.Proto == netlab.ProtoTCP && f.HasFlags(netlab.FlagRST):
		return asked, reset, ours
	case f.Proto == netlab.ProtoUDP:
		return asked, datagram, ours
	case f.IsICMP(netlab.ICMP4EchoReply, netlab.ICMP6EchoReply):
		return probe{echoScan, f.Src.Addr(), 0}, echoReply, true
	case f.Quoted == nil:
		return probe{}, silence, false
	}

	asked, ours = asProbe(*f.Quoted)
	if f.IsPortUnreachable() {
		return asked, portUnreachable, ours
	}
	return asked, otherError, ours
}

// asProbe returns the probe that a packet carries, as an ICMP error quotes it.
func asProbe(f netlab.Frame) (probe, bool) {
	if f.Proto == netlab.ProtoICMP || f.Proto == netlab.ProtoICMPv6 {
		return probe{echoScan, f.Dst.Addr(), 0}, true
	}
	t, ours := techniqueFrom(f.Src.Port())
	return probe{t, f.Dst.Addr(), f.Dst.Port()}, ours
}
