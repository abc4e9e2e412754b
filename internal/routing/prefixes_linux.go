package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The packets of the prefixes are led to the device by a policy rule, which comes
// before every other route and address of the host:
//
//	0: to PREFIX iif DEVICE lookup local   \ for each Inside
//	0: to PREFIX iif DEVICE lookup main    /
//	0: not from all iif lo lookup 108      what comes from outside
//	0: from all lookup local               the kernel's, behind ours
//
// Table 108 has the routes of all prefixes and nothing else, so that other packets
// go on to the next rule. No route of another table, however narrow or cheap, and
// no address on an interface takes a packet from outside past the gateway. What the
// host itself sends follows its other rules: it reaches upstreams in a prefix by the
// routes of the main table, and the gateway by those that the prefixes have there.

// prefixTable has the routes of the prefixes: a number of our own, below 256 so that
// every iproute2 shows it.
const prefixTable = 108

// loopback is the interface by which, for rules, the host's own packets come.
const loopback = "lo"

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

// rules are those of the prefixes, in the order in which the kernel is to consult
// them. Routes of Local have none.
func (r Routes) rules() []netlink.Rule {
	if r.table != 0 {
		return nil
	}
	var rules []netlink.Rule
	for _, in := range r.UpstreamLinks {
		if !slices.Contains(r.Prefixes, in.Prefix) {
			continue
		}
		for _, table := range []int{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN} {
			one := netlink.NewRule()
			one.Priority, one.Protocol, one.Family = rulePriority, RouteProtocol, familyOf(in.Prefix.Addr())
			one.Dst, one.IifName, one.Table = ipNet(in.Prefix), in.Device, table
			rules = append(rules, *one)
		}
	}
	for _, family := range r.families() {
		one := netlink.NewRule()
		one.Priority, one.Protocol, one.Family = rulePriority, RouteProtocol, family
		one.IifName, one.Invert, one.Table = loopback, true, prefixTable
		rules = append(rules, *one)
	}
	return rules
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

// isTableRule reports whether a rule is the one that leads to prefixTable.
func isTableRule(rule *netlink.Rule) bool {
	return rule.Protocol == RouteProtocol && rule.Invert && rule.IifName == loopback && rule.Table == prefixTable
}

// ownsRule reports whether a rule is one of the prefixes. That which leads to their
// table is that of other gateways, too.
func (r Routes) ownsRule(rule *netlink.Rule) bool {
	if rule.Protocol != RouteProtocol || rule.IifName == "" {
		return false
	}
	p, ok := prefixOf(rule.Dst)
	return isTableRule(rule) || ok && slices.Contains(r.Prefixes, p)
}

// setRules puts the rules of the prefixes before that of the local table.
func (r Routes) setRules() error {
	if r.table != 0 {
		return nil
	}
	wanted := r.rules()
	for _, family := range r.families() {
		if err := ruleOwner(r.ownsRule).reconcile(family, filterFamily(wanted, family)); err != nil {
			return err
		}
	}
	return nil
}

// removeRules deletes the rules of the prefixes, whose routes are gone. That which
// leads to their table stays where another gateway has routes there.
func (r Routes) removeRules() (removed int, err error) {
	if r.table != 0 {
		return 0, nil
	}
	for _, family := range r.families() {
		others, err := Routes{table: prefixTable}.listOwn(family)
		if err != nil {
			return removed, err
		}
		have, err := listRules(family)
		if err != nil {
			return removed, err
		}
		for i := range have {
			if !r.ownsRule(&have[i]) || isTableRule(&have[i]) && len(others) > 0 {
				continue
			}
			if err := deleteRule(&have[i]); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// verifyRules says what is missing of the rules.
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

// goneSuffix ends what is said of a device that is not there: its routes are not
// missing for another reason.
const goneSuffix = " is gone"

// Verify says, in a line each, what is missing of what Blackhole and Attach have
// made for the device called name. Asking takes no privilege.
func (r Routes) Verify(name string) ([]string, error) {
	var missing []string
	for _, t := range r.perTable() {
		more, err := t.verifyTable(name)
		if err != nil {
			return nil, err
		}
		for _, line := range more { // of the device it is said once
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

// Plan is that of Routes.
func (l HostPorts) Plan(index int) (rules []netlink.Rule, routes []netlink.Route) {
	if len(l.addrs()) == 0 {
		return nil, nil
	}
	_, routes = l.routes().Plan(index)
	return l.rules(), routes
}

// formatSelectors writes the selectors of a rule of ours.
func formatSelectors(r *netlink.Rule) string {
	text := fmt.Sprintf("%d:", r.Priority)
	if r.Invert {
		text += " not"
	}
	if p, ok := prefixOf(r.Dst); ok {
		if p.IsSingleIP() {
			text += " to " + p.Addr().String()
		} else {
			text += " to " + p.String()
		}
	}
	if r.IifName != "" {
		text += fmt.Sprintf(" iif %s lookup %d", r.IifName, r.Table)
	}
	return text
}
