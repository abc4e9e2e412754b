package bypass

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/routing"
)

// Kernel constants that package unix lacks.
const (
	// From linux/netconf.h: attributes, and the index that means all interfaces.
	netconfIndex, netconfForwarding, netconfRPFilter, netconfForce6 = 1, 2, 3, 9
	netconfAll                                                      = -1
	// From linux/ip.h (IPV4_DEVCONF_*), numbered from 1.
	devconfForwarding, devconfRPFilter, devconfAcceptLocal = 1, 8, 23
	// From linux/if_link.h: IFLA_INET_CONF, IFLA_VRF_TABLE,
	// RTEXT_FILTER_SKIP_STATS.
	inetConf, vrfTable, skipStatistics = 1, 1, 1 << 3
	// sizeofNetconf is the aligned size of struct netconfmsg.
	sizeofNetconf = 4
	// From linux/rtnetlink.h: RTA_NH_ID.
	nexthopID = 30
	// word is the size of a 32-bit number.
	word = 4
)

// tries is the number of attempts at a dump that a concurrent change
// interrupts. Objects that exist throughout are nearly always in one of the
// results; the next snapshot has the others.
const tries = 3

// Read takes a snapshot of this host, as far as it concerns the protected
// addresses. It takes no privileges. Its cost is linear in the number of
// routes.
func Read(p *Protected) (*State, error) {
	s := &State{}
	for _, ask := range []func(*Protected) error{s.readLinks, s.readSettings, s.readRules, s.readRoutes} {
		if err := ask(p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// dump requests all messages of a kind.
func dump(what string, question, answer uint16, data nl.NetlinkRequestData, begin func(), each func([]byte)) error {
	var err error
	for range tries {
		begin()
		req := nl.NewNetlinkRequest(int(question), unix.NLM_F_DUMP)
		req.AddData(data)
		err = req.ExecuteIter(unix.NETLINK_ROUTE, answer, func(message []byte) bool {
			each(message)
			return true
		})
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list %s: %w", what, err)
	}
	return nil
}

// attributes returns the attributes of a message by type, without the flags of
// nesting and byte order. A later one replaces an earlier one.
func attributes(b []byte) map[uint16][]byte {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	all := make(map[uint16][]byte, len(list))
	for _, a := range list {
		all[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return all
}

// number returns a 32-bit number, or 0 without one.
func number(b []byte) uint32 {
	if len(b) < word {
		return 0
	}
	return nl.NativeEndian().Uint32(b)
}

// name returns a string that ends with a zero byte.
func name(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unix.ByteSliceToString(b)
}

func (s *State) readLinks(*Protected) error {
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	return dump("interfaces", unix.RTM_GETLINK, unix.RTM_NEWLINK, message, func() { s.Links = nil }, func(b []byte) {
		if len(b) < unix.SizeofIfInfomsg {
			return
		}
		m := nl.DeserializeIfInfomsg(b)
		all := attributes(b[unix.SizeofIfInfomsg:])
		l := Link{Index: int(m.Index), Name: name(all[unix.IFLA_IFNAME]), Up: m.Flags&unix.IFF_UP != 0, Loopback: m.Flags&unix.IFF_LOOPBACK != 0}
		if info := attributes(all[unix.IFLA_LINKINFO]); name(info[unix.IFLA_INFO_KIND]) == "vrf" {
			l.VRFTable = number(attributes(info[unix.IFLA_INFO_DATA])[vrfTable])
		}
		settings := attributes(attributes(all[unix.IFLA_AF_SPEC])[unix.AF_INET])[inetConf]
		setting := func(n int) uint32 {
			if at := (n - 1) * word; len(settings) >= at+word {
				return number(settings[at:])
			}
			return 0
		}
		l.Forwarding, l.RPFilter = setting(devconfForwarding) != 0, int(setting(devconfRPFilter))
		l.AcceptLocal = setting(devconfAcceptLocal) != 0
		s.Links = append(s.Links, l)
	})
}

// netconf is struct netconfmsg: an address family.
type netconf struct{ family byte }

func (n netconf) Len() int          { return sizeofNetconf }
func (n netconf) Serialize() []byte { return []byte{n.family, 0, 0, 0} }

// readSettings reads the settings for all interfaces. A kernel without IPv6 has
// no IPv6 settings.
func (s *State) readSettings(*Protected) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		err := dump("network settings", unix.RTM_GETNETCONF, unix.RTM_NEWNETCONF, netconf{family}, func() {}, func(b []byte) {
			if len(b) < sizeofNetconf || b[0] != family {
				return
			}
			all := attributes(b[sizeofNetconf:])
			index := int(int32(number(all[netconfIndex])))
			switch {
			case index == netconfAll && family == unix.AF_INET:
				s.RPFilter = int(number(all[netconfRPFilter]))
			case index == netconfAll:
				s.Forwarding6 = number(all[netconfForwarding]) != 0
			case family == unix.AF_INET6:
				if l := s.link(index); l != nil {
					l.ForceForwarding6 = number(all[netconfForce6]) != 0
				}
			}
		})

		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
			s.NoSettings = s.NoSettings || family == unix.AF_INET
		case err != nil:
			return err
		}
	}
	return nil
}

func (s *State) readRoutes(p *Protected) error {
	targets := p.targets()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		before := s.Routes
		message := &nl.RtMsg{RtMsg: unix.RtMsg{Family: family}}
		begin := func() { s.Routes = before[:len(before):len(before)] }
		err := dump("routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, message, begin, func(b []byte) {
			if r, ok := parseRoute(b, family, targets); ok {
				s.Routes = append(s.Routes, r)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parseRoute parses a route. ok is false unless it concerns the targets.
func parseRoute(b []byte, family uint8, targets []target) (r Route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}

	m := nl.DeserializeRtMsg(b)
	if m.Family != family || m.Flags&unix.RTM_F_CLONED != 0 {
		return r, false
	}
	all := attributes(b[unix.SizeofRtMsg:])
	r = Route{
		Dst: parsePrefix(all[unix.RTA_DST], m.Dst_len, family), Table: uint32(m.Table), TOS: m.Tos, Type: Type(m.Type),
		Metric: number(all[unix.RTA_PRIORITY]), Nexthop: number(all[nexthopID]), Ours: m.Protocol == routing.RouteProtocol,
	}
	if !r.Dst.IsValid() || r.Dst.Bits() > 1 && !overlapsAny(r.Dst, targets) {
		return r, false
	}
	if table, ok := all[unix.RTA_TABLE]; ok {
		r.Table = number(table)
	}

	r.Dead = m.Flags&unix.RTNH_F_DEAD != 0
	r.Gateway = all[unix.RTA_GATEWAY] != nil || all[unix.RTA_VIA] != nil
	if oif, ok := all[unix.RTA_OIF]; ok {
		r.Links = []int{int(number(oif))}
	}
	if hops, ok := all[unix.RTA_MULTIPATH]; ok {
		r.Links = nextHops(hops)
	}
	return r, true
}

func overlapsAny(p netip.Prefix, targets []target) bool {
	for i := range targets {
		if targets[i].prefix.Overlaps(p) {
			return true
		}
	}
	return false
}

// nextHops returns the interfaces of a multipath route.
func nextHops(b []byte) (links []int) {
	for len(b) >= unix.SizeofRtNexthop {
		length := int(nl.NativeEndian().Uint16(b)) // struct rtnexthop: length, flags, hops, index
		if length < unix.SizeofRtNexthop || length > len(b) {
			return links
		}
		const flags, index = 2, 4
		if b[flags]&unix.RTNH_F_DEAD == 0 {
			links = append(links, int(number(b[index:])))
		}
		b = b[min((length+word-1)&^(word-1), len(b)):]
	}
	return links
}

// parsePrefix parses the prefix of an attribute; without one, it contains all
// addresses.
func parsePrefix(b []byte, bits, family uint8) netip.Prefix {
	a := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		a = netip.IPv6Unspecified()
	}
	if len(b) > 0 {
		a, _ = netip.AddrFromSlice(b)
	}
	return netip.PrefixFrom(a, int(bits)).Masked()
}

func (s *State) readRules(*Protected) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		before := s.Rules
		message := &nl.RtMsg{RtMsg: unix.RtMsg{Family: family}}
		begin := func() { s.Rules = before[:len(before):len(before)] }
		err := dump("rules", unix.RTM_GETRULE, unix.RTM_NEWRULE, message, begin, func(b []byte) {
			if len(b) >= unix.SizeofRtMsg && b[0] == family {
				s.Rules = append(s.Rules, parseRule(b))
			}
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}

// parseRule parses a rule. Its header is struct fib_rule_hdr, whose action
// takes the place of the type of a route.
func parseRule(b []byte) Rule {
	m := nl.DeserializeRtMsg(b)
	list, err := nl.ParseRouteAttr(b[unix.SizeofRtMsg:])
	r := Rule{V6: m.Family == unix.AF_INET6, TOS: m.Tos, Table: uint32(m.Table), Action: Action(m.Type), SuppressLength: -1, Other: err != nil}
	r.Invert = m.Flags&netlink.FibRuleInvert != 0
	for _, a := range list {
		v := a.Value
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case nl.FRA_DST:
			r.To = parsePrefix(v, m.Dst_len, m.Family)
		case nl.FRA_SRC:
			r.From = parsePrefix(v, m.Src_len, m.Family)
		case nl.FRA_IIFNAME:
			r.In = name(v)
		case nl.FRA_OIFNAME:
			r.Out = name(v)
		case nl.FRA_GOTO:
			r.GotoPriority = number(v)
		case nl.FRA_PRIORITY:
			r.Priority = number(v)
		case nl.FRA_FWMARK:
			r.Mark = number(v)
		case nl.FRA_FWMASK:
			r.Mask = number(v)
		case nl.FRA_TUN_ID:
			r.TunID = number64(v)
		case nl.FRA_SUPPRESS_IFGROUP:
			r.SuppressGroup = number(v) != none
		case nl.FRA_SUPPRESS_PREFIXLEN:
			r.SuppressLength = int(int32(number(v)))
		case nl.FRA_TABLE:
			r.Table = number(v)
		case nl.FRA_L3MDEV:
			r.L3MDev = len(v) > 0 && v[0] != 0
		case nl.FRA_UID_RANGE:
			if len(v) >= 2*word {
				r.UIDs = fmt.Sprintf("%d-%d", number(v), number(v[word:]))
			}
		case nl.FRA_PROTOCOL:
			r.Ours = len(v) > 0 && v[0] == routing.RouteProtocol
		case nl.FRA_IP_PROTO:
			if len(v) > 0 {
				r.IPProto = v[0]
			}
		case nl.FRA_SPORT_RANGE:
			r.Sport = parsePorts(v)
		case nl.FRA_DPORT_RANGE:
			r.Dport = parsePorts(v)
		case sportMask, dportMask: // of a range, and of one port, it is the whole port
			r.Other = r.Other || len(v) < half || nl.NativeEndian().Uint16(v) != wholePort
		case nl.FRA_FLOW, nl.FRA_PAD, nl.FRA_UNSPEC: // realms are no selector
		default:
			r.Other = true
		}
	}
	return r
}

const (
	// none means that nothing is suppressed.
	none = 0xffffffff
	// From linux/fib_rules.h: FRA_SPORT_MASK and FRA_DPORT_MASK, and the mask
	// that compares a whole port.
	sportMask, dportMask = 28, 29
	wholePort            = 0xffff
	// half is the size of a port.
	half = 2
)

// number64 returns a 64-bit number in network byte order.
func number64(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func parsePorts(b []byte) PortRange {
	if len(b) < 2*half {
		return PortRange{}
	}
	return PortRange{nl.NativeEndian().Uint16(b), nl.NativeEndian().Uint16(b[half:])}
}
