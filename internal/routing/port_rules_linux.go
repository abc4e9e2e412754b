package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rulePriority is the priority of every rule of ours. Of rules with equal priority
// the kernel asks the one that was added first, and "ip rule flush" deletes none of
// priority 0, so that a script which flushes the rules and adds its own deletes
// neither ours nor the kernel's rule of the local table, which comes after them.
const rulePriority = 0

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

func dropRule(a netip.Addr, protocol int) netlink.Rule {
	r := newRule(a, protocol)
	r.Type = unix.RTN_BLACKHOLE // FR_ACT_BLACKHOLE has the same number
	return r
}

func newRule(a netip.Addr, protocol int) netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Protocol, r.IPProto = rulePriority, RouteProtocol, protocol
	r.Family = familyOf(a)
	r.Dst = ipNet(netip.PrefixFrom(a, a.BitLen()))
	return *r
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
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

// rulesEqual tells whether two rules of ours for the same family are the same.
func rulesEqual(a, b *netlink.Rule) bool {
	return a.Priority == b.Priority && a.Table == b.Table && a.IPProto == b.IPProto && a.Dst.String() == b.Dst.String() &&
		a.IifName == b.IifName && a.Invert == b.Invert &&
		portRange(a.Dport) == portRange(b.Dport) && portRange(a.Sport) == portRange(b.Sport)
}

func portRange(r *netlink.RulePortRange) netlink.RulePortRange {
	if r == nil {
		return netlink.RulePortRange{}
	}
	return *r
}

func listRules(family int) ([]netlink.Rule, error) {
	var rules []netlink.Rule
	err := retryDump(func() (err error) {
		rules, err = netlink.RuleList(family)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", withRemedy(err))
	}
	return rules, nil
}

func addRule(r *netlink.Rule) error {
	if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %v: %w", r, withRemedy(err))
	}
	return nil
}

func deleteRule(r *netlink.Rule) error {
	if err := netlink.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rule %v: %w", r, withRemedy(err))
	}
	return nil
}
