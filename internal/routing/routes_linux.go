package routing

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// RouteProtocol marks the routes and rules that are ours (rtnetlink(7), rtm_protocol);
	// values above 4 (RTPROT_STATIC) are for user space, and this one is not in
	// iproute2's list.
	RouteProtocol = 107
	// deviceMetric and blackholeMetric order the two routes of a prefix; the
	// smaller wins. IPv6 turns 0 into 1024, hence not 0. The gap leaves room for
	// an operator's own routes.
	deviceMetric    = 64
	blackholeMetric = 9999
	// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
	addrGenModeNone = 1
)

// RoutesManaged tells whether this system's routes are set by Routes, or by
// the operator's own hand.
const RoutesManaged = true

// addBlackholes installs the blackhole routes of one table, as many of them as it can.
func (r Routes) addBlackholes() (err error) {
	for _, p := range r.Prefixes {
		if rerr := netlink.RouteReplace(r.blackholeRoute(p)); rerr != nil {
			err = errors.Join(err, fmt.Errorf("blackhole route %s: %w", p, withRemedy(rerr)))
		}
	}
	return err
}

// Attach brings the device called name up and routes the prefixes to it. Blackholes of
// earlier runs within the prefixes, which would be in the way, are removed.
func (r Routes) Attach(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	// A link-local address of the kernel's own has no business here; a kernel
	// without IPv6 cannot be told, and need not be.
	_ = netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone)
	if err := netlink.LinkSetTxQLen(link, queueLength); err != nil {
		return fmt.Errorf("set queue length of %s: %w", name, withRemedy(err))
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring interface %s up: %w", name, withRemedy(err))
	}
	if err := configureInterface(name); err != nil {
		return err
	}
	for _, t := range r.perTable() {
		if err := t.attachTable(link); err != nil {
			return err
		}
	}
	return nil
}

// attachTable routes the prefixes to the device in one table.
func (r Routes) attachTable(link netlink.Link) error {
	if err := r.checkUnclaimed(link); err != nil {
		return err
	}
	for _, p := range slices.DeleteFunc(slices.Clone(r.Prefixes), func(p netip.Prefix) bool { return !r.hasUpstreamLink(p) }) {
		err := netlink.RouteDel(r.deviceRoute(p, link.Attrs().Index)) // of an earlier configuration
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route of %s to %s: %w", p, link.Attrs().Name, withRemedy(err))
		}
	}
	for _, p := range r.attachedPrefixes() {
		if err := netlink.RouteReplace(r.deviceRoute(p, link.Attrs().Index)); err != nil {
			return fmt.Errorf("route %s to %s: %w", p, link.Attrs().Name, withRemedy(err))
		}
	}
	return r.removeStaleBlackholes()
}

// deviceRoute is the route of a prefix to the device.
func (r Routes) deviceRoute(p netip.Prefix, index int) *netlink.Route {
	route := &netlink.Route{
		LinkIndex: index,
		Dst:       ipNet(p),
		Priority:  deviceMetric,
		Table:     r.table,
		Protocol:  RouteProtocol,
		Scope:     netlink.SCOPE_LINK,
	}
	if p.Addr().Is6() {
		route.Scope = netlink.SCOPE_UNIVERSE
	}
	return route
}

// removeStaleBlackholes removes blackholes of earlier runs that lie within a prefix, which would take
// packets before its route does: those of narrower prefixes that were routed before.
// One beside which a device's route stands is of another gateway.
func (r Routes) removeStaleBlackholes() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := r.listOwn(family)
		if err != nil {
			return err
		}
		used := make(map[netip.Prefix]bool)
		for i := range routes {
			if p, ok := prefixOf(routes[i].Dst); ok && routes[i].Priority == deviceMetric {
				used[p] = true
			}
		}
		for i := range routes {
			p, ok := prefixOf(routes[i].Dst)
			if !ok || used[p] || routes[i].Type != unix.RTN_BLACKHOLE || !r.isSubnet(p) {
				continue
			}
			if err := netlink.RouteDel(&routes[i]); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the blackhole %s of an earlier run: %w", p, withRemedy(err))
			}
		}
	}
	return nil
}

// isSubnet tells whether p is a part of a prefix, and not all of it.
func (r Routes) isSubnet(p netip.Prefix) bool {
	return slices.ContainsFunc(r.Prefixes, func(of netip.Prefix) bool { return of.Bits() < p.Bits() && of.Contains(p.Addr()) })
}

// listOwn lists the routes that knockgw made, of whatever prefix.
func (r Routes) listOwn(family int) ([]netlink.Route, error) {
	filter := &netlink.Route{Protocol: RouteProtocol, Table: cmp.Or(r.table, unix.RT_TABLE_MAIN)}
	var routes []netlink.Route
	err := retryDump(func() (err error) {
		routes, err = netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", withRemedy(err))
	}
	return routes, nil
}

// checkUnclaimed returns an error if a prefix is routed to the device of another gateway that
// is alive, which would be deaf from then on: a device's routes go with it.
func (r Routes) checkUnclaimed(link netlink.Link) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := r.listOwn(family)
		if err != nil {
			return err
		}
		for i := range routes {
			at := &routes[i]
			if at.Priority != deviceMetric || at.LinkIndex == link.Attrs().Index || !r.hasPrefix(at.Dst) {
				continue
			}
			if other, err := netlink.LinkByIndex(at.LinkIndex); err == nil {
				return fmt.Errorf("%s is routed to %s, the device of another gateway: stop that one, or take the prefix out of tun.routes: %w",
					at.Dst, other.Attrs().Name, ErrPrefixInUse)
			}
		}
	}
	return nil
}

// queueLength is how many packets may wait for a read; the kernel's 500 is
// less than what one window of a fast sender holds when it is not segmented.
const queueLength = 1000

// removeTable takes away the routes of one table.
func (r Routes) removeTable() (removed int, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, lerr := r.listOwn(family)
		if lerr != nil {
			err = errors.Join(err, lerr)
			continue
		}
		for i := range routes {
			if !r.hasPrefix(routes[i].Dst) {
				continue
			}
			if derr := netlink.RouteDel(&routes[i]); derr != nil && !errors.Is(derr, unix.ESRCH) {
				err = errors.Join(err, fmt.Errorf("remove route %s: %w", routes[i].Dst, withRemedy(derr)))
				continue
			}
			removed++
		}
	}
	return removed, err
}

func (r Routes) hasPrefix(n *net.IPNet) bool {
	p, ok := prefixOf(n)
	return ok && slices.Contains(r.Prefixes, p)
}

func (r Routes) blackholeRoute(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:      ipNet(p),
		Type:     unix.RTN_BLACKHOLE,
		Table:    r.table,
		Priority: blackholeMetric,
		Protocol: RouteProtocol,
	}
}

// prefixTable has the routes of the prefixes: a number of our own, below 256 so that
// every iproute2 shows it.
const prefixTable = 108

// perTable are the same prefixes for each of the tables that have their routes.
func (r Routes) perTable() []Routes {
	if r.table != 0 || len(r.Prefixes) == 0 {
		return []Routes{r} // those of Local, which has rules of its own
	}
	return []Routes{r, {Prefixes: r.Prefixes, table: prefixTable}}
}

// attachedPrefixes are the prefixes that have a route to the device in this table. In the main
// table, which is for what the host itself sends, those with hosts behind an
// interface have none: it would win over the kernel's connected route.
func (r Routes) attachedPrefixes() []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(r.Prefixes), r.hasUpstreamLink)
}

func (r Routes) hasUpstreamLink(p netip.Prefix) bool {
	return r.table == 0 && slices.ContainsFunc(r.UpstreamLinks, func(in UpstreamLink) bool { return in.Prefix == p })
}

// InstallBlackholes installs the blackhole routes, as many of them as it can, and the rules
// that lead to them. Those of an earlier run are kept.
func (r Routes) InstallBlackholes() (err error) {
	for _, t := range r.perTable() {
		err = errors.Join(err, t.addBlackholes())
	}
	return errors.Join(err, r.setRules())
}

// Remove takes away every route that Blackhole and Attach left, in this and in
// earlier runs, for these prefixes, and the rules that lead to them, and nothing
// else. It reports how many there were.
func (r Routes) Remove() (removed int, err error) {
	for _, t := range r.perTable() {
		n, err := t.removeTable()
		removed += n
		if err != nil {
			return removed, err
		}
	}
	n, err := r.removeRules()
	return removed + n, err
}

// Plan returns the rules and routes that Blackhole and Attach would make for a
// device with the given index, in the order in which the kernel consults them, to
// judge by them before they are there.
func (r Routes) Plan(index int) (rules []netlink.Rule, routes []netlink.Route) {
	for _, t := range r.perTable() {
		for _, p := range t.attachedPrefixes() {
			routes = append(routes, *t.deviceRoute(p, index))
		}
		for _, p := range t.Prefixes {
			routes = append(routes, *t.blackholeRoute(p))
		}
	}
	return r.rules(), routes
}

// families are those of the prefixes.
func (r Routes) families() []int {
	var all []int
	for _, p := range r.Prefixes {
		if f := familyOf(p.Addr()); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}
