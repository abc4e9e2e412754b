package routing

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxRulePort is the last port that the kernel accepts in a rule's range. That
// 65535 is not accepted is undocumented.
const maxRulePort = 65534

// maxRulesPerAddr bounds the rules of an address besides those of its ports.
const maxRulesPerAddr = 6

// rules returns the rules that hide the ports, in the order in which they are
// consulted: packets for a hidden port go to localTable, packets with other
// ports to the host, and packets without ports are dropped.
func (h HostPorts) rules() []netlink.Rule {
	rules := make([]netlink.Rule, 0, 2*(len(h.Ports)+len(h.UDP))+maxRulesPerAddr*len(h.addrs()))
	h.eachPort(func(p netip.AddrPort, protocol int) {
		r := newRule(p.Addr(), protocol)
		r.Table, r.Dport = localTable, netlink.NewRulePortRange(p.Port(), p.Port())
		rules = append(rules, r)
	})

	var tcp []netip.Addr // with a hidden TCP port
	for _, p := range h.Ports {
		if !slices.Contains(tcp, p.Addr()) {
			tcp = append(tcp, p.Addr())
		}
	}
	for _, a := range tcp {
		// Rules see no ports in a fragment, not even in the first. It takes two
		// rules, because no range includes the last port: if one side of a
		// connection has it, the other side's port matches.
		to, from := newRule(a, unix.IPPROTO_TCP), newRule(a, unix.IPPROTO_TCP)
		to.Table, to.Dport = unix.RT_TABLE_LOCAL, netlink.NewRulePortRange(1, maxRulePort)
		from.Table, from.Sport = unix.RT_TABLE_LOCAL, netlink.NewRulePortRange(1, maxRulePort)
		rules = append(rules, to, from, dropRule(a, unix.IPPROTO_TCP))
		if a.Is6() {
			// Rules parse up to 15 extension headers and one fragment header;
			// the kernel itself parses more.
			rules = append(rules, dropRule(a, unix.IPPROTO_DSTOPTS), dropRule(a, unix.IPPROTO_ROUTING),
				dropRule(a, unix.IPPROTO_FRAGMENT))
		}
	}
	return rules
}

// families returns the address families of the ports.
func (h HostPorts) families() []int {
	var all []int
	for _, a := range h.addrs() {
		if f := familyOf(a); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// ownsRule reports whether r is a rule of ours for one of the addresses.
func (h HostPorts) ownsRule(r *netlink.Rule) bool {
	if r.Protocol != RouteProtocol || r.Dst == nil || r.IifName != "" {
		return false
	}
	return slices.ContainsFunc(h.addrs(), func(a netip.Addr) bool { return r.Dst.IP.Equal(a.AsSlice()) })
}

// Plan is Routes.Plan for the ports.
func (h HostPorts) Plan(index int) (rules []netlink.Rule, routes []netlink.Route) {
	if len(h.addrs()) == 0 {
		return nil, nil
	}
	_, routes = h.routes().Plan(index)
	return h.rules(), routes
}

// setRules installs the rules, in their order, before the kernel's rule of the
// local table, and deletes rules of an earlier run that are no longer wanted.
func (h HostPorts) setRules() error {
	wanted := h.rules()
	for _, family := range h.families() {
		if err := ruleOwner(h.ownsRule).reconcile(family, filterFamily(wanted, family)); err != nil {
			return err
		}
	}
	return nil
}

// removeRules deletes the rules. It moves the rule of the local table back if
// an earlier version, or a start that was killed, has moved it.
func (h HostPorts) removeRules() (removed int, err error) {
	for _, family := range h.families() {
		have, err := listRules(family)
		if err != nil {
			return removed, err
		}
		if slices.ContainsFunc(have, func(r netlink.Rule) bool { return isSpareLocalRule(&r) }) && !ruleOwner(h.ownsRule).othersNeedSpare(have) {
			if err := restoreLocalRule(family, have, false); err != nil {
				return removed, err
			}
		}
		for i := range have {
			if !h.ownsRule(&have[i]) {
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
func (h HostPorts) eachPort(f func(p netip.AddrPort, protocol int)) {
	for _, p := range h.Ports {
		f(p, unix.IPPROTO_TCP)
		f(p, unix.IPPROTO_UDP)
	}
	for _, p := range h.UDP {
		f(p, unix.IPPROTO_UDP)
	}
}

// localTable has the routes that the rules of Local lead to: a number of our
// own, below 256 so that every iproute2 shows it.
const localTable = 107
