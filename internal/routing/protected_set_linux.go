package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Restore installs what is missing of the routes and rules that lead packets to
// the device with this interface index: blackholes and rules first.
func (s ProtectedSet) Restore(index int) error {
	if err := s.InstallBlackholes(); err != nil {
		return err
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Errorf("find the gateway's interface: %w", err)
	}
	name := link.Attrs().Name
	if err := s.Routes().Attach(name); err != nil {
		return err
	}
	return s.HostPorts().Attach(name)
}

// Installed returns the protected addresses of all gateways of this host, as
// the kernel's tables have them: the prefixes with a blackhole of ours, and the
// ports with a rule.
func Installed() (ProtectedSet, error) {
	var s ProtectedSet
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := Routes{}.listOwn(family)
		if err != nil {
			return ProtectedSet{}, err
		}
		for i := range routes {
			if p, ok := prefixOf(routes[i].Dst); ok && routes[i].Type == unix.RTN_BLACKHOLE && !slices.Contains(s.Prefixes, p) {
				s.Prefixes = append(s.Prefixes, p)
			}
		}
		rules, err := listRules(family)
		if err != nil {
			return ProtectedSet{}, err
		}
		s.addPorts(rules)
		s.addUpstreamLinks(rules)
	}
	return s, nil
}

// addUpstreamLinks adds the interfaces with hosts of a prefix behind them.
func (s *ProtectedSet) addUpstreamLinks(rules []netlink.Rule) {
	for i := range rules {
		r := &rules[i]
		p, ok := prefixOf(r.Dst)
		in := UpstreamLink{Prefix: p, Device: r.IifName}
		if ok && r.Protocol == RouteProtocol && r.Table == unix.RT_TABLE_MAIN && r.IifName != "" && !r.Invert &&
			slices.Contains(s.Prefixes, p) && !slices.Contains(s.UpstreamLinks, in) {
			s.UpstreamLinks = append(s.UpstreamLinks, in)
		}
	}
}

// addPorts adds the ports that rules lead to localTable.
func (s *ProtectedSet) addPorts(rules []netlink.Rule) {
	tcp, udp := make(map[netip.AddrPort]bool), make(map[netip.AddrPort]bool)
	for i := range rules {
		r := &rules[i]
		if r.Protocol != RouteProtocol || r.Table != localTable || r.Dport == nil || r.Dport.Start != r.Dport.End {
			continue
		}
		p, ok := prefixOf(r.Dst)
		if !ok || !p.IsSingleIP() {
			continue
		}
		at := netip.AddrPortFrom(p.Addr(), r.Dport.Start)
		switch {
		case r.IPProto == unix.IPPROTO_TCP && !tcp[at]:
			tcp[at] = true
			s.Ports = append(s.Ports, at)
		case r.IPProto == unix.IPPROTO_UDP && !udp[at]:
			udp[at] = true
			s.UDP = append(s.UDP, at)
		}
	}
	s.UDP = subtract(s.UDP, s.Ports) // they include UDP
}

// installRules installs the blackholes and the rules of the ports.
func (h HostPorts) installRules() error {
	if len(h.addrs()) == 0 {
		return nil
	}
	return errors.Join(h.routes().InstallBlackholes(), h.setRules())
}
