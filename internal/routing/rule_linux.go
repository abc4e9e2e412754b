package routing

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rulePriority is the priority of all our rules. The kernel consults rules of
// equal priority in the order in which they were added. "ip rule flush" does
// not delete rules of priority 0, so that a script that flushes the rules and
// adds its own deletes neither ours nor the kernel's rule of the local table,
// which follows them.
const rulePriority = 0

func newRule(a netip.Addr, protocol int) netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Protocol, r.IPProto = rulePriority, RouteProtocol, protocol
	r.Family = familyOf(a)
	r.Dst = ipNet(netip.PrefixFrom(a, a.BitLen()))
	return *r
}

func dropRule(a netip.Addr, protocol int) netlink.Rule {
	r := newRule(a, protocol)
	r.Type = unix.RTN_BLACKHOLE // equal to FR_ACT_BLACKHOLE
	return r
}

// rulesEqual reports whether two rules of ours for the same family are equal.
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

func addRules(rules []netlink.Rule) error {
	for i := range rules {
		if err := addRule(&rules[i]); err != nil {
			return err
		}
	}
	return nil
}

func deleteRule(r *netlink.Rule) error {
	if err := netlink.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rule %v: %w", r, withRemedy(err))
	}
	return nil
}

func filterFamily(rules []netlink.Rule, family int) []netlink.Rule {
	var all []netlink.Rule
	for i := range rules {
		if rules[i].Family == family {
			all = append(all, rules[i])
		}
	}
	return all
}

// formatSelectors formats the selectors of a rule of ours.
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

// formatRule formats a rule of ours in the syntax of ip rule.
func formatRule(r *netlink.Rule) string {
	text := formatSelectors(r)
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
