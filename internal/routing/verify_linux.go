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

// missing says what is missing of the routes of one table, and of the device.
func (r Routes) missing(name string) ([]string, error) {
	if len(r.Prefixes) == 0 {
		return nil, nil
	}
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return []string{fmt.Sprintf("the interface %s"+goneSuffix, name)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the interface %s: %w", name, err)
	}
	var missing []string
	if link.Attrs().Flags&net.FlagUp == 0 {
		missing = append(missing, fmt.Sprintf("the interface %s is down", name))
	}
	var changing error
	device, blackhole := make(map[netip.Prefix]bool), make(map[netip.Prefix]bool)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if !slices.ContainsFunc(r.Prefixes, func(p netip.Prefix) bool { return familyOf(p.Addr()) == family }) {
			continue
		}
		filter := &netlink.Route{Protocol: RouteProtocol, Table: cmp.Or(r.table, unix.RT_TABLE_MAIN)}
		err := whole(func() error {
			return netlink.RouteListFilteredIter(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE, func(at netlink.Route) bool {
				p, ok := prefixOf(at.Dst)
				switch {
				case !ok:
				case at.Type == unix.RTN_BLACKHOLE:
					blackhole[p] = true
				case at.LinkIndex == link.Attrs().Index:
					device[p] = true
				}
				return true
			})
		})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		changing = errors.Join(changing, err)
	}
	if changing != nil && (lacks(device, r.led()) || lacks(blackhole, r.Prefixes)) {
		return nil, fmt.Errorf("list routes, which change meanwhile: %w", changing) // those may be there all the same
	}
	where := ""
	if r.table != 0 {
		where = fmt.Sprintf(" of table %d", r.table)
	}
	for _, p := range r.Prefixes {
		if !device[p] && !r.hasInside(p) {
			missing = append(missing, fmt.Sprintf("the route of %s to %s%s", p, name, where))
		}
		if !blackhole[p] {
			missing = append(missing, fmt.Sprintf(blackholeOf+"%s%s", p, where))
		}
	}
	return missing, nil
}

func lacks(there map[netip.Prefix]bool, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !there[p] })
}

// lists is how often it is tried to list what changes meanwhile.
const lists = 3

// whole lists anew what has changed while it was listed: such a list may lack what was there all the time. Where it
// does not stop changing the error is netlink.ErrDumpInterrupted.
func whole(list func() error) (err error) {
	for range lists {
		if err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

// Missing says the same of what Hide and Attach have made.
func (l Local) Missing(name string) ([]string, error) {
	if len(l.addrs()) == 0 {
		return nil, nil
	}
	missing, err := l.routes().Missing(name)
	if err != nil {
		return nil, err
	}
	wanted := l.rules()
	for _, family := range l.families() {
		have, err := ruleList(family)
		if err != nil {
			return nil, err
		}
		missing = append(missing, ruleOwner(l.ours).missing(family, have, ofFamily(wanted, family))...)
	}
	return missing, nil
}

// missing says what is missing of the rules of one family, or of their order.
func (ours ruleOwner) missing(family int, have, wanted []netlink.Rule) (missing []string) {
	for i := range wanted {
		w := &wanted[i]
		if !slices.ContainsFunc(have, func(h netlink.Rule) bool { return ours(&h) && equal(&h, w) }) {
			missing = append(missing, "the rule "+spelt(w))
		}
	}
	local := slices.IndexFunc(have, func(h netlink.Rule) bool { return isLocal(&h) })
	switch {
	case local < 0:
		return append(missing, fmt.Sprintf("any rule of the local table: ip %s rule add pref %d lookup local", flagOf(family), rulePriority))
	case slices.ContainsFunc(have[local:], func(h netlink.Rule) bool { return ours(&h) && h.Priority == rulePriority }):
		return append(missing, fmt.Sprintf("the precedence of our rules: the local table is asked before them, at %d", have[local].Priority))
	case len(missing) == 0 && !ours.inOrder(have, wanted):
		return []string{fmt.Sprintf("the order of our rules: ip %s rule", flagOf(family))}
	}
	return missing
}

// spelt writes one of our rules as ip rule shows it.
func spelt(r *netlink.Rule) string {
	text := describe(r)
	if r.IPProto != 0 {
		text += fmt.Sprintf(" ipproto %d", r.IPProto)
	}
	for _, p := range []struct {
		word string
		at   *netlink.RulePortRange
	}{{"sport", r.Sport}, {"dport", r.Dport}} {
		switch {
		case p.at == nil:
		case p.at.Start == p.at.End:
			text += fmt.Sprintf(" %s %d", p.word, p.at.Start)
		default:
			text += fmt.Sprintf(" %s %d-%d", p.word, p.at.Start, p.at.End)
		}
	}
	return text
}

func flagOf(family int) string {
	if family == netlink.FAMILY_V4 {
		return "-4"
	}
	return "-6"
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}
