package policy

import (
	"encoding/binary"
	"net/netip"

	"github.com/knockgw/knockgw/packet"
)

// portTable finds the services of an address and port without hashing the port:
// an index by port into lists, list 0 being empty. The cost of a look-up does
// not depend on how many other services have the same port.
type portTable struct {
	index [1 << 16]uint16
	lists []portList
}

// portList are the services of one port.
type portList struct {
	few      []*Service                 // all services, where there are at most maxListed
	single   map[packet.Addr][]*Service // otherwise those with one address,
	prefixes []*Service                 // and the others
}

// maxListed is how many services of a port are compared one by one; more are
// looked up in a map.
const maxListed = 8

func newPortTable() portTable { return portTable{lists: make([]portList, 1)} }

func (t *portTable) add(port uint16, s *Service) {
	if t.index[port] == 0 {
		t.index[port] = uint16(len(t.lists)) // at most one list per port and port 0 has none
		t.lists = append(t.lists, portList{})
	}
	l := &t.lists[t.index[port]]
	switch {
	case l.single != nil:
		l.put(s)
	case len(l.few) < maxListed:
		l.few = append(l.few, s)
	default:
		l.single = make(map[packet.Addr][]*Service)
		for _, old := range l.few {
			l.put(old)
		}
		l.few = nil
		l.put(s)
	}
}

func (l *portList) put(s *Service) {
	if !s.Listen.IsSingleIP() {
		l.prefixes = append(l.prefixes, s)
		return
	}
	a := packet.AddrFrom(s.Listen.Addr())
	l.single[a] = append(l.single[a], s)
}

// at returns, in two lists, the services of a port that may be those of an
// address: all whose address it is, and others.
func (t *portTable) at(dst packet.Addr, port uint16) [2][]*Service {
	l := &t.lists[t.index[port]]
	if l.single == nil {
		return [2][]*Service{l.few}
	}
	return [2][]*Service{l.single[dst], l.prefixes}
}

// service returns the service of an address and port; nil if there is none. It
// is find for the look-up that every packet needs.
func (t *portTable) service(dst packet.Addr, port uint16) *Service {
	i := t.index[port]
	if i == 0 {
		return nil
	}
	l := &t.lists[i]
	some := l.few
	if l.single != nil {
		if at := l.single[dst]; len(at) > 0 {
			return at[0]
		}
		some = l.prefixes
	}
	for _, s := range some {
		if s.covers(dst) {
			return s
		}
	}
	return nil
}

// find returns the first service of a port that covers an address and fits; nil
// if there is none.
func (t *portTable) find(dst packet.Addr, port uint16, fits func(*Service) bool) *Service {
	for _, list := range t.at(dst, port) {
		for _, s := range list {
			if s.covers(dst) && (fits == nil || fits(s)) {
				return s
			}
		}
	}
	return nil
}

// A subnet is a netip.Prefix in the form of a packet's addresses: every packet
// is compared with some, and netip's takes ten times as long.
type subnet struct {
	high, low         uint64 // of its addresses
	maskHigh, maskLow uint64
	is4               bool
}

func newSubnet(p netip.Prefix) subnet {
	const ipv4Bits, half = 96, 64 // before an IPv4 address; in each of two numbers
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += ipv4Bits
	}
	n := subnet{
		maskHigh: ^uint64(0) << (half - min(bits, half)),
		maskLow:  ^uint64(0) << (half - max(bits-half, 0)),
		is4:      p.Addr().Is4(),
	}
	a := packet.AddrFrom(p.Addr())
	n.high = binary.BigEndian.Uint64(a[:8]) & n.maskHigh
	n.low = binary.BigEndian.Uint64(a[8:]) & n.maskLow
	return n
}

// contains reports whether a is in the subnet. As in netip, no IPv6 subnet
// contains an IPv4 address.
func (n *subnet) contains(a *packet.Addr) bool {
	return binary.BigEndian.Uint64(a[8:])&n.maskLow == n.low &&
		binary.BigEndian.Uint64(a[:8])&n.maskHigh == n.high &&
		n.is4 == a.Is4()
}
