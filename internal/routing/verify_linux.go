package routing

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// goneSuffix ends the line about a device that does not exist: its routes are
// missing for no other reason.
const goneSuffix = " is gone"

// Verify returns what is missing of the routes and rules that InstallBlackholes
// and Attach have installed for the device called name, a line each. It takes
// no privileges.
func (r Routes) Verify(name string) ([]string, error) {
	var missing []string
	for _, t := range r.perTable() {
		more, err := t.verifyTable(name)
		if err != nil {
			return nil, err
		}
		for _, line := range more { // the device is reported once
			if strings.HasSuffix(line, goneSuffix) {
				return []string{line}, nil
			}
			if !slices.Contains(missing, line) {
				missing = append(missing, line)
			}
		}
	}
	more, err := r.verifyRules()
	return append(missing, more...), err
}

// verifyTable returns what is missing of the routes of one table, and of the
// device.
func (r Routes) verifyTable(name string) ([]string, error) {
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
		err := retryDump(func() error {
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
	if changing != nil && (missingAny(device, r.attachedPrefixes()) || missingAny(blackhole, r.Prefixes)) {
		return nil, fmt.Errorf("list routes, which keep changing: %w", changing) // they may exist all the same
	}

	where := ""
	if r.table != 0 {
		where = fmt.Sprintf(" of table %d", r.table)
	}
	for _, p := range r.Prefixes {
		if !device[p] && !r.hasUpstreamLink(p) {
			missing = append(missing, fmt.Sprintf("the route of %s to %s%s", p, name, where))
		}
		if !blackhole[p] {
			missing = append(missing, fmt.Sprintf(blackholePrefix+"%s%s", p, where))
		}
	}
	return missing, nil
}

func missingAny(there map[netip.Prefix]bool, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !there[p] })
}

// verifyRules returns what is missing of the rules.
func (r Routes) verifyRules() (missing []string, err error) {
	if r.table != 0 {
		return nil, nil
	}
	wanted := r.rules()
	for _, family := range r.families() {
		have, err := listRules(family)
		if err != nil {
			return nil, err
		}
		missing = append(missing, ruleOwner(r.ownsRule).verify(family, have, filterFamily(wanted, family))...)
	}
	return missing, nil
}

// Verify is Routes.Verify for what Install and Attach have installed.
func (h HostPorts) Verify(name string) ([]string, error) {
	if len(h.addrs()) == 0 {
		return nil, nil
	}
	missing, err := h.routes().Verify(name)
	if err != nil {
		return nil, err
	}
	wanted := h.rules()
	for _, family := range h.families() {
		have, err := listRules(family)
		if err != nil {
			return nil, err
		}
		missing = append(missing, ruleOwner(h.ownsRule).verify(family, have, filterFamily(wanted, family))...)
	}
	return missing, nil
}

// verify returns what is missing of the rules of one family, or of their order.
func (ours ruleOwner) verify(family int, have, wanted []netlink.Rule) (missing []string) {
	for i := range wanted {
		w := &wanted[i]
		if !slices.ContainsFunc(have, func(h netlink.Rule) bool { return ours(&h) && rulesEqual(&h, w) }) {
			missing = append(missing, "the rule "+formatRule(w))
		}
	}
	local := slices.IndexFunc(have, func(h netlink.Rule) bool { return isLocalRule(&h) })
	switch {
	case local < 0:
		return append(missing, fmt.Sprintf("any rule of the local table: ip %s rule add pref %d lookup local", familyFlag(family), rulePriority))
	case slices.ContainsFunc(have[local:], func(h netlink.Rule) bool { return ours(&h) && h.Priority == rulePriority }):
		return append(missing, fmt.Sprintf("the precedence of our rules: the local table is asked before them, at %d", have[local].Priority))
	case len(missing) == 0 && !ours.inOrder(have, wanted):
		return []string{fmt.Sprintf("the order of our rules: ip %s rule", familyFlag(family))}
	}
	return missing
}
