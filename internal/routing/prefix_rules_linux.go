package routing

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A policy rule leads the packets of the prefixes to the device, before all
// other routes and addresses of the host:
//
//	0: to PREFIX iif DEVICE lookup local   \ for each UpstreamLink
//	0: to PREFIX iif DEVICE lookup main    /
//	0: not from all iif lo lookup 108      packets from outside
//	0: from all lookup local               the kernel's, behind ours
//
// Table 108 contains the routes of all prefixes and nothing else, so that other
// packets continue with the next rule. No route of another table, however
// specific, and no address on an interface makes a packet from outside bypass
// the gateway. Packets of the host itself follow its other rules: it reaches
// upstreams in a prefix by the routes of the main table, and the gateway by the
// prefixes' routes there.

// loopback is the incoming interface of the host's own packets in rules.
const loopback = "lo"

// rules returns the rules of the prefixes, in the order in which the kernel has
// to consult them. The Routes of HostPorts have none.
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

// ownsRule reports whether a rule belongs to one of the prefixes. The rule that
// leads to prefixTable also belongs to other gateways.
func (r Routes) ownsRule(rule *netlink.Rule) bool {
	if rule.Protocol != RouteProtocol || rule.IifName == "" {
		return false
	}
	p, ok := prefixOf(rule.Dst)
	return isTableRule(rule) || ok && slices.Contains(r.Prefixes, p)
}

// setRules installs the rules of the prefixes before the rule of the local
// table.
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

// removeRules deletes the rules of the prefixes, whose routes have been
// removed. The rule that leads to prefixTable stays if another gateway has
// routes there.
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
