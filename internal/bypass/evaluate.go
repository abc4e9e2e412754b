package bypass

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// Evaluate returns the paths by which packets from outside for protected
// addresses do not reach the gateway, or its answers do not leave.
func Evaluate(s *State, p *Protected) []Problem {
	var all []Problem
	for _, t := range p.targets() {
		w := newWalk(s, p, t)
		w.run(0, "", nil)
		all = append(all, w.problems...)
	}
	return append(all, s.settings(p)...)
}

// OwnAddresses returns the addresses of the host in a protected prefix, except
// for those of its upstream links. A start would take them from the host, with
// all their connections: it is refused.
func OwnAddresses(s *State, p *Protected) []Problem {
	var all []Problem
	for _, t := range p.targets() {
		for i := range s.Routes {
			r := &s.Routes[i]
			if t.port != 0 || r.Table != tableLocal || r.Type != LocalHost || !r.Dst.IsSingleIP() || !t.prefix.Contains(r.Dst.Addr()) {
				continue
			}
			device := ""
			if len(r.Links) == 1 {
				if l := s.link(r.Links[0]); l != nil {
					device = l.Name
				}
			}
			if device == p.Device || slices.Contains(t.upstreamLinks, device) {
				continue
			}
			all = append(all, Problem{t.String(), Open, fmt.Sprintf("%s is an address of this host (on %s), which would lose it to the gateway", r.Dst.Addr(), termsafe.Name(device)),
				"take it out of tun.routes, and hide ports of it with tun.local; or name the interface in upstream_device, where hosts of the prefix are behind it"})
		}
	}
	return all
}

// targets returns all prefixes and ports.
func (p *Protected) targets() []target {
	var all []target
	for _, prefix := range p.Routes.Prefixes {
		t := target{prefix: prefix.Masked()}
		for _, in := range p.Routes.UpstreamLinks {
			if in.Prefix == prefix {
				t.upstreamLinks = append(t.upstreamLinks, in.Device)
			}
		}
		all = append(all, t)
	}
	port := func(at netip.AddrPort, protocol uint8) {
		a := at.Addr()
		all = append(all, target{prefix: netip.PrefixFrom(a, a.BitLen()), port: at.Port(), protocol: protocol})
	}
	for _, at := range p.HostPorts.Ports {
		port(at, protocolTCP)
		port(at, protocolUDP)
	}
	for _, at := range p.HostPorts.UDP {
		port(at, protocolUDP)
	}
	return all
}

// families reports which address families have protected addresses.
func (p *Protected) families() (v4, v6 bool) {
	for _, t := range p.targets() {
		v4, v6 = v4 || t.prefix.Addr().Is4(), v6 || t.prefix.Addr().Is6()
	}
	return v4, v6
}

// settings returns the settings that make the kernel drop packets to the device
// or from it.
func (s *State) settings(p *Protected) []Problem {
	v4, v6 := p.families()
	if s.NoSettings {
		return []Problem{{"sysctl", Unknown, "whether the kernel forwards packets could not be determined", "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding"}}
	}
	var all []Problem
	if v4 {
		all = append(all, s.forwarding4(p)...)
		all = append(all, s.device4(p)...)
	}
	if v6 && !s.Forwarding6 && !slices.ContainsFunc(s.externalLinks(p), func(l Link) bool { return l.ForceForwarding6 }) {
		all = append(all, Problem{"IPv6", Unusable, "forwarding is off (net.ipv6.conf.all.forwarding): the kernel drops packets for the protected addresses, and clients get no answer",
			"sysctl -w net.ipv6.conf.all.forwarding=1"})
	}
	return all
}

// externalLinks returns the interfaces that packets from outside may arrive by.
func (s *State) externalLinks(p *Protected) []Link {
	inside := func(name string) bool {
		return slices.ContainsFunc(p.Routes.UpstreamLinks, func(in routing.UpstreamLink) bool { return in.Device == name })
	}
	return slices.DeleteFunc(slices.Clone(s.Links), func(l Link) bool {
		return !l.Up || l.Loopback || l.Name == p.Device || inside(l.Name)
	})
}

// forwarding4 checks IPv4 forwarding, which is a setting of the incoming
// interface. Interfaces with a default route lead to clients; without one, any
// may.
func (s *State) forwarding4(p *Protected) []Problem {
	links := s.externalLinks(p)
	if leading := slices.DeleteFunc(slices.Clone(links), func(l Link) bool { return !s.hasDefault4(l.Index) }); len(leading) > 0 {
		links = leading
	}
	if len(links) == 0 || slices.ContainsFunc(links, func(l Link) bool { return l.Forwarding }) {
		return nil
	}
	var names []string
	for _, l := range links {
		names = append(names, termsafe.Name(l.Name))
	}
	return []Problem{{"IPv4", Unusable, fmt.Sprintf("forwarding is off (net.ipv4.ip_forward, and that of %s): the kernel drops packets for the protected addresses, and clients get no answer",
		strings.Join(names, ", ")), "sysctl -w net.ipv4.ip_forward=1"}}
}

func (s *State) hasDefault4(index int) bool {
	return slices.ContainsFunc(s.Routes, func(r Route) bool {
		return r.Dst.Addr().Is4() && isDefault(&r) && slices.Contains(r.Links, index)
	})
}

// device4 checks the settings of the gateway's own interface, by which its
// answers leave. A start sets them.
func (s *State) device4(p *Protected) []Problem {
	d := s.named(p.Device)
	if d == nil {
		return nil
	}
	var all []Problem
	bad := func(found, setting string, value int) {
		remedy := fmt.Sprintf("sysctl -w %s=%d", termsafe.Shell("net.ipv4.conf."+sysctlName(d.Name)+"."+setting), value)
		all = append(all, Problem{"IPv4", Unusable, found, remedy})
	}
	if !d.Forwarding {
		bad("forwarding is off on "+d.Name+": the kernel drops the gateway's answers", "forwarding", 1)
	}
	const strict, loose = 1, 2
	own := slices.ContainsFunc(p.HostPorts.Ports, func(at netip.AddrPort) bool { return at.Addr().Is4() })
	subnet := slices.ContainsFunc(p.Routes.UpstreamLinks, func(in routing.UpstreamLink) bool { return in.Prefix.Addr().Is4() })
	if (own || subnet) && max(s.RPFilter, d.RPFilter) == strict {
		bad("rp_filter is strict on "+d.Name+": the kernel drops the gateway's answers", "rp_filter", loose)
	}
	if own && !d.AcceptLocal {
		bad("accept_local is off on "+d.Name+": the kernel drops the gateway's answers from addresses of the host", "accept_local", 1)
	}
	return all
}

// sysctlName returns an interface's name in the syntax of sysctl.
func sysctlName(name string) string { return strings.ReplaceAll(name, ".", "/") }

// route formats a route in the syntax of ip route.
func (w *walk) route(r *Route) string {
	var b strings.Builder
	if r.Type != Unicast {
		b.WriteString(r.Type.String() + " ")
	}
	b.WriteString(r.Dst.String())
	if r.TOS != 0 {
		fmt.Fprintf(&b, " tos %#x", r.TOS)
	}
	switch {
	case r.Nexthop != 0:
		fmt.Fprintf(&b, " nhid %d", r.Nexthop)
	case len(r.Links) == 1:
		if l := w.s.link(r.Links[0]); l != nil {
			b.WriteString(" dev " + termsafe.Shell(l.Name))
		}
	}
	fmt.Fprintf(&b, " table %s", tableName(r.Table))
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	return b.String()
}

// removeRoute returns the command that removes a route.
func (w *walk) removeRoute(r *Route) string {
	family := "ip"
	if r.Dst.Addr().Is6() {
		family = "ip -6"
	}
	if r.Type == LocalHost && r.Table == tableLocal && r.Dst.IsSingleIP() && len(r.Links) == 1 {
		if l := w.s.link(r.Links[0]); l != nil {
			return fmt.Sprintf("%s addr show to %s # and ip addr del ADDRESS/LENGTH dev %s", family, r.Dst.Addr(), termsafe.Shell(l.Name))
		}
	}
	return family + " route del " + w.route(r)
}

// remove returns the command that deletes a rule.
func (r *Rule) remove() string {
	family := "ip"
	if r.V6 {
		family = "ip -6"
	}
	return fmt.Sprintf("%s rule show # and %[1]s rule del pref %d ..., or give it a lower priority than the gateway's", family, r.Priority)
}
