package routing

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxRulePort is the last port that the kernel takes in a rule's range; why 65535
// is none has no answer in its documentation.
const maxRulePort = 65534

// maxRulesPerAddr are how many rules one address may need besides those of its ports.
const maxRulesPerAddr = 6

// rules are those that hide the ports, in the order in which they are asked: to
// localTable what is for a hidden port; to the host what has ports, none of them
// hidden; and what has none is dropped.
func (l HostPorts) rules() []netlink.Rule {
	rules := make([]netlink.Rule, 0, 2*(len(l.Ports)+len(l.UDP))+maxRulesPerAddr*len(l.addrs()))
	l.eachPort(func(p netip.AddrPort, protocol int) {
		r := newRule(p.Addr(), protocol)
		r.Table, r.Dport = localTable, netlink.NewRulePortRange(p.Port(), p.Port())
		rules = append(rules, r)
	})
	var tcp []netip.Addr // those with a hidden TCP port
	for _, p := range l.Ports {
		if !slices.Contains(tcp, p.Addr()) {
			tcp = append(tcp, p.Addr())
		}
	}
	for _, a := range tcp {
		// A fragment has no ports, as rules see it, not even the first. Two rules,
		// because no range reaches the last port: of a connection that has it on
		// one side, the other decides.
		to, from := newRule(a, unix.IPPROTO_TCP), newRule(a, unix.IPPROTO_TCP)
		to.Table, to.Dport = unix.RT_TABLE_LOCAL, netlink.NewRulePortRange(1, maxRulePort)
		from.Table, from.Sport = unix.RT_TABLE_LOCAL, netlink.NewRulePortRange(1, maxRulePort)
		rules = append(rules, to, from, dropRule(a, unix.IPPROTO_TCP))
		if a.Is6() {
			// Rules look through 15 extension headers, and one fragment header, and no further; the kernel itself does.
			rules = append(rules, dropRule(a, unix.IPPROTO_DSTOPTS), dropRule(a, unix.IPPROTO_ROUTING),
				dropRule(a, unix.IPPROTO_FRAGMENT))
		}
	}
	return rules
}

// families are those of the addresses.
func (l HostPorts) families() []int {
	var all []int
	for _, a := range l.addrs() {
		if f := familyOf(a); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// ownsRule tells whether r is a rule of one of the addresses that we made.
func (l HostPorts) ownsRule(r *netlink.Rule) bool {
	if r.Protocol != RouteProtocol || r.Dst == nil || r.IifName != "" {
		return false
	}
	return slices.ContainsFunc(l.addrs(), func(a netip.Addr) bool { return r.Dst.IP.Equal(a.AsSlice()) })
}

// Plan is that of Routes.
func (l HostPorts) Plan(index int) (rules []netlink.Rule, routes []netlink.Route) {
	if len(l.addrs()) == 0 {
		return nil, nil
	}
	_, routes = l.routes().Plan(index)
	return l.rules(), routes
}

// setRules has the kernel ask our rules, in their order, before that of the local
// table, and deletes those of an earlier run that are not wanted any more.
func (l HostPorts) setRules() error {
	wanted := l.rules()
	for _, family := range l.families() {
		if err := ruleOwner(l.ownsRule).reconcile(family, filterFamily(wanted, family)); err != nil {
			return err
		}
	}
	return nil
}

// removeRules deletes our rules. That of the local table is put back where an earlier
// version, or a start that was killed, has left it elsewhere.
func (l HostPorts) removeRules() (removed int, err error) {
	for _, family := range l.families() {
		have, err := listRules(family)
		if err != nil {
			return removed, err
		}
		if slices.ContainsFunc(have, func(r netlink.Rule) bool { return isSpareLocalRule(&r) }) && !ruleOwner(l.ownsRule).othersNeedSpare(have) {
			if err := restoreLocalRule(family, have, false); err != nil {
				return removed, err
			}
		}
		for i := range have {
			if !l.ownsRule(&have[i]) {
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

// eachPort calls f for each protocol of each hidden port.
func (l HostPorts) eachPort(f func(p netip.AddrPort, protocol int)) {
	for _, p := range l.Ports {
		f(p, unix.IPPROTO_TCP)
		f(p, unix.IPPROTO_UDP)
	}
	for _, p := range l.UDP {
		f(p, unix.IPPROTO_UDP)
	}
}

// localTable has the routes that the rules of Local lead to: a number of our
// own, below 256 so that every iproute2 shows it.
const localTable = 107
