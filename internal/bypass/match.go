package bypass

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A match is the result of matching: whether a rule applies to packets from
// outside for a target.
type match int

const (
	never match = iota
	maybe
	always
)

// matches reports whether a rule applies. A selector that depends on what an
// unauthorized host chooses, or on what another program sets, may match.
func (w *walk) matches(r *Rule) match {
	m := w.matchesSelectors(r)
	if !r.Invert {
		return m
	}
	switch m { // such as "not iif lo": all packets from outside
	case always:
		return never
	case never:
		return always
	default:
		return maybe
	}
}

// loopback is the incoming interface of the host's own packets in rules.
const loopback = "lo"

// matchesSelectors is matches without inversion.
func (w *walk) matchesSelectors(r *Rule) match {
	m := always
	uncertain := func() { m = min(m, maybe) }

	switch {
	case r.In == "":
	case r.In == loopback, r.In == w.p.Device, slices.Contains(w.t.upstreamLinks, r.In) && !w.hasDefaultRoute(r.In):
		return never
	default:
		uncertain()
	}
	if r.Out != "" {
		if l := w.s.named(r.Out); l == nil || l.VRFTable == 0 {
			return never // only packets of a socket bound to it
		}
		uncertain()
	}
	switch {
	case !r.To.IsValid() || r.To.Bits() <= w.t.prefix.Bits() && r.To.Contains(w.t.prefix.Addr()):
	case r.To.Overlaps(w.t.prefix):
		if r.Invert || r.Action == Goto {
			uncertain() // otherwise decide restricts the rule to this part
		}
	default:
		return never
	}
	if r.From.IsValid() && r.From.Bits() > 0 {
		uncertain()
	}
	if r.Mark != 0 || r.Mask != 0 || r.TOS != 0 || r.TunID != 0 || r.UIDs != "" || r.Other {
		uncertain()
	}
	if r.L3MDev {
		if !slices.ContainsFunc(w.s.Links, func(l Link) bool { return l.VRFTable != 0 }) {
			return never
		}
		uncertain()
	}
	return min(m, w.portsMatch(r))
}

// fullMask is the mask of a rule that compares a whole mark.
const fullMask = 0xffffffff

// portsMatch compares the transport protocol and its ports.
func (w *walk) portsMatch(r *Rule) match {
	m := always
	if r.IPProto != 0 {
		switch w.t.protocol {
		case 0:
			m = maybe
		case r.IPProto:
		default:
			return never
		}
	}
	if r.Dport != (PortRange{}) {
		switch {
		case w.t.port == 0:
			m = maybe
		case !r.Dport.contains(w.t.port):
			return never
		}
	}
	if r.Sport != (PortRange{}) {
		m = maybe
	}
	return m
}

// hasDefaultRoute reports whether a default route leads to an interface:
// packets from hosts beyond the upstreams' network then arrive by it, too.
func (w *walk) hasDefaultRoute(name string) bool {
	l := w.s.named(name)
	return l != nil && slices.ContainsFunc(w.s.Routes, func(r Route) bool {
		return isDefault(&r) && r.Dst.Addr().Is6() == w.t.prefix.Addr().Is6() && slices.Contains(r.Links, l.Index)
	})
}

// isDefault reports whether a route is for all addresses, or for half of them,
// as some VPNs install it.
func isDefault(r *Route) bool { return r.Dst.Bits() <= 1 && r.Type == Unicast && !r.Dead }

// String formats a rule in the syntax of ip rule.
func (r *Rule) String() string {
	text := r.selectors()
	switch r.Action {
	case ToTable:
		if !r.L3MDev {
			text += " lookup " + tableName(r.Table)
		}
	case Goto:
		text += fmt.Sprintf(" goto %d", r.GotoPriority)
	case RuleBlackhole:
		text += " blackhole"
	case RuleUnreachable:
		text += " unreachable"
	case RuleProhibit:
		text += " prohibit"
	default:
	}
	return fmt.Sprintf("%d: %s", r.Priority, text)
}

// selectors formats the selectors of a rule.
func (r *Rule) selectors() string {
	var b strings.Builder
	word := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, format, args...)
	}
	if r.Invert {
		word("not")
	}
	word("from %s", formatPrefix(r.From))
	if r.To.IsValid() {
		word("to %s", r.To)
	}
	if r.TOS != 0 {
		word("tos %#x", r.TOS)
	}

	switch {
	case r.Mark == 0 && r.Mask == 0:
	case r.Mask == 0 || r.Mask == fullMask:
		word("fwmark %#x", r.Mark)
	default:
		word("fwmark %#x/%#x", r.Mark, r.Mask)
	}

	if r.In != "" {
		word("iif %s", r.In)
	}
	if r.Out != "" {
		word("oif %s", r.Out)
	}
	if r.UIDs != "" {
		word("uidrange %s", r.UIDs)
	}
	if r.L3MDev {
		word("l3mdev")
	}

	if r.IPProto != 0 {
		word("ipproto %d", r.IPProto)
	}
	if r.Sport != (PortRange{}) {
		word("sport %d-%d", r.Sport.First, r.Sport.Last)
	}
	if r.Dport != (PortRange{}) {
		word("dport %d-%d", r.Dport.First, r.Dport.Last)
	}
	if r.TunID != 0 {
		word("tun_id %d", r.TunID)
	}
	if r.Other {
		word("and unknown selectors")
	}
	return b.String()
}

func formatPrefix(p netip.Prefix) string {
	if !p.IsValid() || p.Bits() == 0 {
		return "all"
	}
	return p.String()
}

// The tables of the kernel (rtnetlink(7), rtm_table).
const (
	tableDefault = 253
	tableMain    = 254
	tableLocal   = 255
)

// tableName returns the name of a table in the syntax of ip route.
func tableName(n uint32) string {
	switch n {
	case tableLocal:
		return "local"
	case tableMain:
		return "main"
	case tableDefault:
		return "default"
	default:
		return strconv.FormatUint(uint64(n), 10)
	}
}
