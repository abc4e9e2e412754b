package bypass

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A target is a prefix or port whose packets must be routed to the device.
type target struct {
	prefix        netip.Prefix
	upstreamLinks []string
	port          uint16 // of a hidden port of the host; 0 for a prefix
	protocol      uint8
}

// String returns the target in the syntax of the configuration.
func (t target) String() string {
	if t.port != 0 {
		name := map[uint8]string{protocolTCP: "TCP", protocolUDP: "UDP"}[t.protocol]
		return fmt.Sprintf("%s port %s", name, netip.AddrPortFrom(t.prefix.Addr(), t.port))
	}
	return t.prefix.String()
}

// Protocol numbers of IANA.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// A walk follows the policy rules for the packets of one target, like the kernel
// does: the first rule that leads to a route decides.
type walk struct {
	s        *State
	p        *Protected
	t        target
	rules    []Rule
	visited  map[int]bool              // rules that a conditional goto has led to
	chosen   map[string][]netip.Prefix // what was decided for the packets of one selector
	problems []Problem
}

func newWalk(s *State, p *Protected, t target) *walk {
	w := &walk{s: s, p: p, t: t, visited: make(map[int]bool), chosen: make(map[string][]netip.Prefix)}
	for i := range s.Rules {
		if s.Rules[i].V6 == t.prefix.Addr().Is6() {
			w.rules = append(w.rules, s.Rules[i])
		}
	}
	return w
}

// run consults the rules from an index on. cond is the condition under which
// packets get here, "" for all of them; decided are the parts that need no more
// rules.
func (w *walk) run(at int, cond string, decided []netip.Prefix) {
	for at < len(w.rules) && !covered(decided, w.t.prefix) {
		r := &w.rules[at]
		at++
		match := w.matches(r)
		if match == never {
			continue
		}
		when := cond
		if match == maybe {
			when = strings.TrimSpace(cond + " " + r.selectors())
		}

		switch r.Action {
		case Goto:
			next := slices.IndexFunc(w.rules, func(o Rule) bool { return o.Priority >= r.GotoPriority })
			if next < at { // the kernel ignores a missing target
				continue
			}
			if match == always {
				at = next
			} else if len(w.visited) >= maxJumps {
				w.report(Unknown, "", "there are too many rules with goto to evaluate", "ip rule show")
			} else if !w.visited[next] {
				w.visited[next] = true
				w.run(next, when, slices.Clone(decided))
			}
		case Nop:
		default:
			parts := w.decide(r, when, append(slices.Clone(decided), w.chosen[when]...))
			if match == always {
				decided = append(decided, parts...)
			} else {
				w.chosen[when] = append(w.chosen[when], parts...)
			}
		}
	}
	if !covered(decided, w.t.prefix) && !covered(w.chosen[cond], w.t.prefix) {
		w.report(Open, cond, fmt.Sprintf("no route leads to %s, so this host answers with Destination Unreachable", w.p.Device), "restart the gateway, which adds its routes")
	}
}

// decide applies a rule other than a goto, and returns the parts of the target
// that it decides about.
func (w *walk) decide(r *Rule, cond string, decided []netip.Prefix) []netip.Prefix {
	part := w.t.prefix
	if r.To.IsValid() && !r.Invert && r.To.Bits() > part.Bits() {
		part = r.To
	}
	if covered(decided, part) {
		return nil
	}

	switch r.Action {
	case ToTable:
		if !r.L3MDev {
			return w.lookup(r, r.Table, part, cond, decided)
		}
		for i := range w.s.Links {
			if table := w.s.Links[i].VRFTable; table != 0 {
				w.lookup(r, table, part, strings.TrimSpace(cond+" vrf "+w.s.Links[i].Name), decided)
			}
		}
		return nil
	case RuleBlackhole:
		if w.isService(part) {
			w.report(Unusable, cond, fmt.Sprintf("the rule %s drops packets for %s", r, part), r.remove())
		}
	case RuleUnreachable, RuleProhibit:
		w.report(Open, cond, fmt.Sprintf("the rule %s makes this host answer for %s with an ICMP error", r, part), r.remove())
	default:
		w.report(Unknown, cond, fmt.Sprintf("the rule %s has an unknown action (%d)", r, r.Action), "ip rule show")
	}
	return []netip.Prefix{part}
}

// lookup looks up a part of the target in a table: the longest prefix wins, and
// among equal prefixes the smallest metric.
func (w *walk) lookup(r *Rule, table uint32, part netip.Prefix, cond string, decided []netip.Prefix) []netip.Prefix {
	routes := w.routesIn(table, part)
	seen := slices.Clone(decided)
	var parts []netip.Prefix
	for i := range routes {
		route := &routes[i]
		at := part
		if route.Dst.Bits() > part.Bits() {
			at = route.Dst
		}
		if covered(seen, at) {
			continue
		}

		suppressed := r.SuppressLength >= 0 && route.Dst.Bits() <= r.SuppressLength
		if route.Type != Throw && !suppressed {
			w.checkRoute(route, at, cond)
		}
		if route.TOS != 0 {
			continue // packets with another TOS continue
		}
		seen = append(seen, at)
		if route.Type != Throw && !suppressed && !r.SuppressGroup {
			parts = append(parts, at)
		}
	}
	return parts
}

// routesIn returns the routes of a table that match addresses of a part, in the
// kernel's order of preference.
func (w *walk) routesIn(table uint32, part netip.Prefix) []Route {
	var all []Route
	for i := range w.s.Routes {
		if r := &w.s.Routes[i]; r.Table == table && !r.Dead && r.Dst.Overlaps(part) {
			all = append(all, *r)
		}
	}
	slices.SortStableFunc(all, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cmp.Compare(b.TOS, a.TOS), cmp.Compare(a.Metric, b.Metric))
	})
	return all
}

// checkRoute reports a route that sends packets of a part elsewhere than to the
// device.
func (w *walk) checkRoute(r *Route, at netip.Prefix, cond string) {
	switch r.Type {
	case Blackhole:
		if w.isService(at) {
			w.report(Unusable, cond, fmt.Sprintf("%s is dropped by the route %s, which takes precedence over the one to %s", at, w.route(r), w.p.Device), w.removeRoute(r))
		}
	case LocalHost, Broadcast, Anycast, Multicast:
		if w.t.port != 0 { // the sockets on hidden ports drop it
			w.report(Unusable, cond, fmt.Sprintf("packets go to this host itself (table %s), not to %s", tableName(r.Table), w.p.Device), w.removeRoute(r))
			return
		}
		w.report(Open, cond, fmt.Sprintf("%s is an address of this host (%s), whose kernel answers for it", at, r.Type), w.removeRoute(r))
	case Unicast:
		var others []string
		for _, i := range r.Links {
			if l := w.s.link(i); l == nil {
				others = append(others, fmt.Sprintf("interface %d", i))
			} else if l.Name != w.p.Device {
				others = append(others, l.Name)
			}
		}
		if len(r.Links) == 0 {
			others = []string{"an unknown interface"}
		}
		if len(others) > 0 {
			w.report(Open, cond, fmt.Sprintf("the route %[3]s sends packets for %[1]s to %[2]s, which bypasses the gateway", at, strings.Join(others, " and "), w.route(r)), w.removeRoute(r))
		}
	case Unreachable, Prohibit:
		w.report(Open, cond, fmt.Sprintf("the route %s makes this host answer for %s with an ICMP error", w.route(r), at), w.removeRoute(r))
	default:
		w.report(Unknown, cond, fmt.Sprintf("the route %s has an unknown type (%d)", w.route(r), r.Type), "ip route show table all")
	}
}

// report adds a problem unless it was added before.
func (w *walk) report(s Severity, cond, found, remedy string) {
	if cond != "" {
		found += " (packets that match: " + cond + ")"
	}
	p := Problem{Subject: w.t.String(), Severity: s, Message: found, Remedy: remedy}
	if !slices.Contains(w.problems, p) && len(w.problems) < maxProblems {
		w.problems = append(w.problems, p)
	}
}

// maxJumps bounds the conditional gotos that are followed: each walks the
// remaining rules once more.
const maxJumps = 16

// maxProblems bounds the problems of one target. Once they are fixed, the
// others are reported.
const maxProblems = 32

// isService reports whether clients use an address of the part.
func (w *walk) isService(part netip.Prefix) bool {
	return w.t.port != 0 || slices.ContainsFunc(w.p.Services, part.Overlaps)
}

// covered reports whether parts contain all addresses of p.
func covered(parts []netip.Prefix, p netip.Prefix) bool {
	overlap := false
	for _, part := range parts {
		if part.Bits() <= p.Bits() && part.Contains(p.Addr()) {
			return true
		}
		overlap = overlap || part.Overlaps(p)
	}
	if !overlap {
		return false // no part is within p
	}
	low, high := halves(p)
	return covered(parts, low) && covered(parts, high)
}

// halves splits a prefix that is longer than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	raw := p.Addr().AsSlice()
	low = netip.PrefixFrom(p.Addr(), bits)
	const octet = 8
	raw[p.Bits()/octet] |= 1 << (octet - 1 - p.Bits()%octet)
	a, _ := netip.AddrFromSlice(raw)
	return low, netip.PrefixFrom(a, bits)
}
