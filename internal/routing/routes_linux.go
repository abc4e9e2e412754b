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
	// RouteProtocol marks our routes and rules (rtnetlink(7), rtm_protocol).
	// Values above 4 (RTPROT_STATIC) are for user space; this one is not in
	// iproute2's list.
	RouteProtocol = 107
	// deviceMetric and blackholeMetric order the two routes of a prefix; the
	// smaller wins. Not 0, which IPv6 replaces by 1024. The gap leaves room for
	// the operator's own routes.
	deviceMetric    = 64
	blackholeMetric = 9999
	// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
	addrGenModeNone = 1
)

// RoutesManaged reports whether Routes set this system's routes, and not the
// operator.
const RoutesManaged = true

// prefixTable is the routing table of the prefixes: a number of our own, below
// 256 so that every version of iproute2 shows it.
const prefixTable = 108

// perTable returns the prefixes once for each table that has routes for them.
func (r Routes) perTable() []Routes {
	if r.table != 0 || len(r.Prefixes) == 0 {
		return []Routes{r} // of HostPorts, which have their own rules
	}
	return []Routes{r, {Prefixes: r.Prefixes, table: prefixTable}}
}

// attachedPrefixes returns the prefixes that have a route to the device in this
// table. In the main table, which routes the host's own packets, prefixes with
// upstream links have none: it would take precedence over the kernel's
// connected route.
func (r Routes) attachedPrefixes() []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(r.Prefixes), r.hasUpstreamLink)
}

func (r Routes) hasUpstreamLink(p netip.Prefix) bool {
	return r.table == 0 && slices.ContainsFunc(r.UpstreamLinks, func(in UpstreamLink) bool { return in.Prefix == p })
}

// families returns the address families of the prefixes.
func (r Routes) families() []int {
	var all []int
	for _, p := range r.Prefixes {
		if f := familyOf(p.Addr()); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// InstallBlackholes installs the blackholes, as many of them as possible, and
// the rules that lead to them. Those of an earlier run are kept.
func (r Routes) InstallBlackholes() (err error) {
	for _, t := range r.perTable() {
		err = errors.Join(err, t.addBlackholes())
	}
	return errors.Join(err, r.setRules())
}

// addBlackholes installs the blackholes of one table, as many of them as
// possible.
func (r Routes) addBlackholes() (err error) {
	for _, p := range r.Prefixes {
		if rerr := netlink.RouteReplace(r.blackholeRoute(p)); rerr != nil {
			err = errors.Join(err, fmt.Errorf("blackhole route %s: %w", p, withRemedy(rerr)))
		}
	}
	return err
}

// queueLength is the number of packets that may wait for a read. The kernel's
// default of 500 is less than one window of a fast sender without segmentation
// offload.
const queueLength = 1000

// Attach brings the device called name up and routes the prefixes to it. It
// removes blackholes of earlier runs within the prefixes, which would take
// precedence.
func (r Routes) Attach(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	// The kernel must not assign a link-local address. Without IPv6 this fails,
	// and is not needed.
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

// checkUnclaimed returns an error if a prefix is routed to the device of
// another gateway that is running. A device's routes are removed with it.
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

// removeStaleBlackholes removes the blackholes of more specific prefixes of
// earlier runs, which would take precedence over the route of a prefix. A
// blackhole with a device's route beside it belongs to another gateway.
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

// isSubnet reports whether p is a proper subnet of a prefix.
func (r Routes) isSubnet(p netip.Prefix) bool {
	return slices.ContainsFunc(r.Prefixes, func(of netip.Prefix) bool { return of.Bits() < p.Bits() && of.Contains(p.Addr()) })
}

// Remove removes the routes that InstallBlackholes and Attach have installed
// for these prefixes, in this run and earlier ones, and the rules that lead to
// them. It returns their number.
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

// removeTable removes the routes of one table.
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

// Plan returns the rules and routes that InstallBlackholes and Attach would
// install for a device with the given index, in the order in which the kernel
// consults them.
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

// deviceRoute returns the route of a prefix to the device.
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

// blackholeRoute returns the blackhole of a prefix.
func (r Routes) blackholeRoute(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:      ipNet(p),
		Type:     unix.RTN_BLACKHOLE,
		Table:    r.table,
		Priority: blackholeMetric,
		Protocol: RouteProtocol,
	}
}

// listOwn returns the routes of one table that knockgw has installed, of all
// prefixes.
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

func (r Routes) hasPrefix(n *net.IPNet) bool {
	p, ok := prefixOf(n)
	return ok && slices.Contains(r.Prefixes, p)
}
