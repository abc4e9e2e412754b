package routing

import (
	"slices"

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

// loopback is the interface by which, for rules, the host's own packets come.
const loopback = "lo"

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
