package routing

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel's rule of the local table has priority 0, like ours, and has to
// follow them. New rules are added behind those of equal priority. A change of
// our rules therefore takes three steps, and none leaves the host without
// its addresses, or a hidden port without its rule:
//
//  1. our rules are added at spareRules, and the rule of the local table at
//     spareLocal;
//  2. those at 0 are deleted, and added at 0 in the right order;
//  3. the spare rules are deleted.
const (
	spareRules = 1
	spareLocal = 2
	// The priorities of rules, and of the moved rule of the local table, in an
	// earlier version.
	legacyFirst, legacyLocal = 10, 13
)

// maxReconcileAttempts is the number of attempts to put the rules in order
// while another program changes them.
const maxReconcileAttempts = 4

// newLocalRule returns the rule of the local table. It bears the kernel's
// protocol: a network manager that deletes foreign rules must not leave the
// host without its addresses.
func newLocalRule(family, priority int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Protocol = family, priority, unix.RT_TABLE_LOCAL, unix.RTPROT_KERNEL
	return r
}

// isLocalRule reports whether r sends all packets to the local table.
func isLocalRule(r *netlink.Rule) bool {
	return r.Table == unix.RT_TABLE_LOCAL && r.Dst == nil && r.Src == nil && r.IPProto == 0 &&
		r.IifName == "" && r.OifName == "" && r.Mark == 0
}

// isSpareLocalRule reports whether r is a rule of the local table at a priority
// that only we use, now or in an earlier version.
func isSpareLocalRule(r *netlink.Rule) bool {
	return isLocalRule(r) && (r.Priority == spareLocal || r.Priority == legacyLocal)
}

// A ruleOwner reports whether a rule belongs to one HostPorts, or to the
// prefixes of one Routes. Other rules of ours are left alone.
type ruleOwner func(r *netlink.Rule) bool

// reconcile installs the rules of one family, and verifies the result.
func (ours ruleOwner) reconcile(family int, wanted []netlink.Rule) error {
	for range maxReconcileAttempts {
		have, err := listRules(family)
		if err != nil {
			return err
		}
		if ours.inOrder(have, wanted) {
			return nil
		}
		if err := ours.rebuild(family, have, wanted); err != nil {
			return err
		}
	}
	return fmt.Errorf("put the rules of protected addresses first: another program keeps changing them; run: ip monitor rule")
}

// inOrder reports whether have contains exactly the wanted rules, in order,
// before any rule of the local table, and whether that rule is where it
// belongs.
func (ours ruleOwner) inOrder(have, wanted []netlink.Rule) bool {
	var found []netlink.Rule
	local, spare := false, false
	for i := range have {
		r := &have[i]
		switch {
		case ours(r):
			if local {
				return false
			}
			found = append(found, *r)
		case isLocalRule(r):
			local, spare = true, spare || isSpareLocalRule(r)
		}
	}
	return local && (!spare || ours.othersNeedSpare(have)) &&
		slices.EqualFunc(found, wanted, func(a, b netlink.Rule) bool { return rulesEqual(&a, &b) })
}

// othersNeedSpare reports whether another gateway, of an earlier version,
// depends on the rule of the local table being behind its own.
func (ours ruleOwner) othersNeedSpare(have []netlink.Rule) bool {
	return slices.ContainsFunc(have, func(r netlink.Rule) bool {
		return r.Protocol == RouteProtocol && !ours(&r) && r.Dst != nil && r.Priority >= legacyFirst && r.Priority < legacyLocal
	})
}

// localRuleMoved reports whether the operator has put the rule of the local
// table behind ours, as VRFs need it. It stays where it is.
func localRuleMoved(have []netlink.Rule) bool {
	return slices.ContainsFunc(have, func(r netlink.Rule) bool {
		return isLocalRule(&r) && r.Priority != rulePriority && !isSpareLocalRule(&r)
	})
}

// rebuild replaces the existing rules by the wanted ones.
func (ours ruleOwner) rebuild(family int, have, wanted []netlink.Rule) error {
	spare := slices.Clone(wanted)
	for i := range spare {
		spare[i].Priority = spareRules
	}
	if err := addRules(spare); err != nil {
		return err
	}
	if err := addRule(newLocalRule(family, spareLocal)); err != nil {
		return err
	}

	// Delete in the order of the list: the kernel deletes the first rule that
	// has all the given attributes, and it may have more.
	for i := range have {
		r := &have[i]
		if isLocalRule(r) && r.Priority == rulePriority || ours(r) && r.Priority != spareRules {
			r.Family = family
			if err := deleteRule(r); err != nil {
				return err
			}
		}
	}
	if err := addRules(wanted); err != nil {
		return err
	}
	if err := restoreLocalRule(family, have, ours.othersNeedSpare(have)); err != nil {
		return err
	}

	for i := range spare {
		if err := deleteRule(&spare[i]); err != nil {
			return err
		}
	}
	for i := range have { // left by an interrupted rebuild with other ports
		if r := &have[i]; ours(r) && r.Priority == spareRules {
			if err := deleteRule(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreLocalRule adds the rule of the local table where it belongs, and then
// deletes it where it was moved to.
func restoreLocalRule(family int, have []netlink.Rule, keep bool) error {
	if keep {
		if err := addRule(newLocalRule(family, legacyLocal)); err != nil {
			return err
		}
		return deleteRule(newLocalRule(family, spareLocal))
	}
	if !localRuleMoved(have) {
		if err := addRule(newLocalRule(family, rulePriority)); err != nil {
			return err
		}
	}
	for _, priority := range []int{spareLocal, legacyLocal} {
		if err := deleteRule(newLocalRule(family, priority)); err != nil {
			return err
		}
	}
	return nil
}
