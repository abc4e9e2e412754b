package bypass

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/routing"
)

// plannedIndex is the index of a device that does not exist yet.
const plannedIndex = -1

// With returns the snapshot as it would be after a start: with the gateway's
// device, routes and rules.
func (s *State) With(p *Protected) *State {
	planned := *s
	index := plannedIndex
	if d := s.named(p.Device); d != nil {
		index = d.Index
	}
	planned.Links = slices.DeleteFunc(slices.Clone(s.Links), func(l Link) bool { return l.Index == index })
	planned.Links = append(planned.Links, Link{Index: index, Name: p.Device, Up: true, Forwarding: true, RPFilter: looseFilter, AcceptLocal: true})

	planned.Rules, planned.Routes = nil, slices.Clone(s.Routes)
	for _, plan := range []func(int) ([]netlink.Rule, []netlink.Route){p.Routes.Plan, p.HostPorts.Plan} {
		rules, routes := plan(index)
		for i := range rules {
			planned.Rules = append(planned.Rules, plannedRule(&rules[i]))
		}
		for i := range routes {
			planned.Routes = append(planned.Routes, plannedRoute(&routes[i]))
		}
	}
	planned.Rules = append(planned.Rules, s.Rules...)
	return &planned
}

// looseFilter is the rp_filter setting that a start applies to the device.
const looseFilter = 2

func plannedRule(r *netlink.Rule) Rule {
	rule := Rule{
		V6: r.Family == unix.AF_INET6, Priority: uint32(r.Priority), Invert: r.Invert, To: planPrefix(r.Dst), In: r.IifName,
		IPProto: uint8(r.IPProto), Action: ToTable, Table: uint32(r.Table), SuppressLength: -1, Ours: true,
	}
	if r.Type != 0 {
		rule.Action = Action(r.Type)
	}
	for at, to := range map[*netlink.RulePortRange]*PortRange{r.Dport: &rule.Dport, r.Sport: &rule.Sport} {
		if at != nil {
			*to = PortRange{at.Start, at.End}
		}
	}
	return rule
}

func plannedRoute(r *netlink.Route) Route {
	route := Route{
		Dst: planPrefix(r.Dst), Table: uint32(cmp.Or(r.Table, unix.RT_TABLE_MAIN)), Metric: uint32(r.Priority),
		Type: Type(cmp.Or(r.Type, unix.RTN_UNICAST)), Ours: r.Protocol == routing.RouteProtocol,
	}
	if route.Type == Unicast {
		route.Links = []int{r.LinkIndex}
	}
	return route
}

func planPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
