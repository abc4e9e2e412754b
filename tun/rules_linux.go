package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The order of the rules; the smaller is asked first. The kernel has its own,
// that of the local table, at 0, and what is added at 0 comes after it: it moves
// to movedLocal once that is there, and comes back in the same way.
const (
	kernelLocal = iota
	hiddenPorts = iota + 9 // to localTable
	otherPorts             // what has ports, and none of them hidden, is the host's
	portless               // and what has none is dropped
	movedLocal
)

// lastRulePort is the last port that the kernel takes in a rule's range; why 65535
// is none has no answer in its documentation.
const lastRulePort = 65534

// mostLocalRules are how many rules one address may need besides those of its ports.
const mostLocalRules = 6

// rules are all that hide the ports, but the one that moves.
func (l Local) rules() []netlink.Rule {
	rules := make([]netlink.Rule, 0, 2*(len(l.Ports)+len(l.UDP))+mostLocalRules*len(l.addrs()))
	l.ports(func(p netip.AddrPort, protocol int) {
		r := rule(hiddenPorts, p.Addr(), protocol)
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
		to, from := rule(otherPorts, a, unix.IPPROTO_TCP), rule(otherPorts, a, unix.IPPROTO_TCP)
		to.Table, to.Dport = unix.RT_TABLE_LOCAL, netlink.NewRulePortRange(1, lastRulePort)
		from.Table, from.Sport = unix.RT_TABLE_LOCAL, netlink.NewRulePortRange(1, lastRulePort)
		rules = append(rules, to, from, dropped(a, unix.IPPROTO_TCP))
		if a.Is6() {
			// Rules look through 15 extension headers, and one fragment header, and no further; the kernel itself does.
			rules = append(rules, dropped(a, unix.IPPROTO_DSTOPTS), dropped(a, unix.IPPROTO_ROUTING),
				dropped(a, unix.IPPROTO_FRAGMENT))
		}
	}
	return rules
}

func dropped(a netip.Addr, protocol int) netlink.Rule {
	r := rule(portless, a, protocol)
	r.Type = unix.RTN_BLACKHOLE // FR_ACT_BLACKHOLE has the same number
	return r
}

func rule(priority int, a netip.Addr, protocol int) netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Protocol, r.IPProto = priority, routeProtocol, protocol
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

// localRule is the rule of the local table, at its place or at the one where it is
// moved to. It is the kernel's at either: a network manager that clears away
// foreign rules must not leave the host without its own addresses.
func localRule(family, priority int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Protocol = family, priority, unix.RT_TABLE_LOCAL, unix.RTPROT_KERNEL
	return r
}

// movesLocal tells whether the rule of the local table has to be moved: not where
// somebody, as who uses VRFs, has it behind our rules already.
func movesLocal(have []netlink.Rule) bool {
	before, after := false, false
	for i := range have {
		if isLocal(&have[i]) {
			before = before || have[i].Priority <= movedLocal
			after = after || have[i].Priority > movedLocal
		}
	}
	return before || !after
}

// families are those of the addresses.
func (l Local) families() []int {
	var all []int
	for _, a := range l.addrs() {
		if f := familyOf(a); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// setRules makes the rules that are missing, then has the kernel ask them first,
// and then takes away those of an earlier run that are not wanted any more.
func (l Local) setRules() error {
	wanted := l.rules()
	for _, family := range l.families() {
		have, err := ruleList(family)
		if err != nil {
			return err
		}
		if !movesLocal(have) {
			continue
		}
		if err := add(localRule(family, movedLocal)); err != nil {
			return err
		}
	}
	for i := range wanted {
		if err := add(&wanted[i]); err != nil {
			return err
		}
	}
	for _, family := range l.families() {
		have, err := ruleList(family)
		if err != nil {
			return err
		}
		for i := range have {
			r := &have[i]
			switch {
			case isLocal(r) && r.Priority <= portless:
				if r.Priority != kernelLocal {
					return fmt.Errorf("the rule of the local table has priority %d, and ours must be asked before it; "+
						"move it to 0, or behind %d", r.Priority, portless)
				}
				r.Family = family
				if err := remove(r); err != nil {
					return err
				}
			case l.ours(r) && !slices.ContainsFunc(wanted, func(w netlink.Rule) bool { return equal(r, &w) }):
				if err := remove(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// removeRules has the kernel ask its own rule first again, unless other addresses
// need the order, and takes ours away.
func (l Local) removeRules() (removed int, err error) {
	for _, family := range l.families() {
		have, err := ruleList(family)
		if err != nil {
			return removed, err
		}
		others := slices.ContainsFunc(have, func(r netlink.Rule) bool {
			return r.Protocol == routeProtocol && !l.ours(&r) && !isLocal(&r)
		})
		moved := slices.ContainsFunc(have, isMoved)
		if moved && !others {
			if err := add(localRule(family, kernelLocal)); err != nil {
				return removed, err
			}
		}
		for i := range have {
			if !l.ours(&have[i]) {
				continue
			}
			if err := remove(&have[i]); err != nil {
				return removed, err
			}
			removed++
		}
		for i := range have {
			if moved && !others && isMoved(have[i]) {
				have[i].Family = family
				if err := remove(&have[i]); err != nil {
					return removed, err
				}
			}
		}
	}
	return removed, nil
}

// ours tells whether r is a rule of one of the addresses that we made.
func (l Local) ours(r *netlink.Rule) bool {
	if r.Protocol != routeProtocol || r.Dst == nil {
		return false
	}
	return slices.ContainsFunc(l.addrs(), func(a netip.Addr) bool { return r.Dst.IP.Equal(a.AsSlice()) })
}

// isLocal tells whether r sends everybody to the local table.
func isLocal(r *netlink.Rule) bool {
	return r.Table == unix.RT_TABLE_LOCAL && r.Dst == nil && r.Src == nil && r.IPProto == 0 &&
		r.IifName == "" && r.OifName == "" && r.Mark == 0
}

// isMoved tells whether r is the rule of the local table where we move it to.
func isMoved(r netlink.Rule) bool { return isLocal(&r) && r.Priority == movedLocal }

// equal tells whether two rules of ours for the same family are the same.
func equal(a, b *netlink.Rule) bool {
	return a.Priority == b.Priority && a.Table == b.Table && a.IPProto == b.IPProto && a.Dst.String() == b.Dst.String() &&
		ports(a.Dport) == ports(b.Dport) && ports(a.Sport) == ports(b.Sport)
}

func ports(r *netlink.RulePortRange) netlink.RulePortRange {
	if r == nil {
		return netlink.RulePortRange{}
	}
	return *r
}

func ruleList(family int) ([]netlink.Rule, error) {
	var rules []netlink.Rule
	err := whole(func() (err error) {
		rules, err = netlink.RuleList(family)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", permission(err))
	}
	return rules, nil
}

func add(r *netlink.Rule) error {
	if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %v: %w", r, permission(err))
	}
	return nil
}

func remove(r *netlink.Rule) error {
	if err := netlink.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rule %v: %w", r, permission(err))
	}
	return nil
}
