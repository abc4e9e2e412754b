package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkIngressRoute asks the kernel where it would route packets for the
// services that arrive by each interface.
func checkIngressRoute(_ context.Context, c *checker) {
	if !c.running || c.host.IngressRoute == nil {
		return // without a device there is no route to it
	}
	links, err := c.externalLinks()
	if err != nil {
		c.failed(err)
		return
	}
	before, asked := len(c.findings), 0
	for _, l := range links {
		asked += checkIngressLink(c, l, links)
	}
	if len(c.findings) == before && asked > 0 {
		c.ok("packets from outside for the services are routed to %s", c.Config.TUN.Name)
	}
}

// checkIngressLink checks packets that arrive by l, and reports at most one
// problem. It returns the number of routes that it queried.
func checkIngressLink(c *checker, l Link, links []Link) (asked int) {
	for i := range c.Config.Services {
		s := &c.Config.Services[i]
		p := IngressPacket{Interface: l.Name, To: s.Listen.Addr(), Port: s.Port}
		from, ok := neighborAddr(l, p.To, links)
		if !ok || isUpstreamAddr(c, p.To, l.Name) {
			continue
		}
		p.From = from

		device, err := c.host.IngressRoute(p)
		if err != nil {
			continue // the interface rejects that source, or does not forward: other checks report it
		}
		if asked++; device == c.Config.TUN.Name {
			continue
		}
		if device == "" {
			device = "nowhere"
		}
		c.report(Fail, fmt.Sprintf("ip rule; ip route get %s from %s iif %s ipproto tcp dport %d # find the rule or route that comes before knockgw's, and remove it",
			p.To, from, termsafe.Shell(l.Name), p.Port),
			"packets that arrive by %s for %s are routed to %s, not to %s", l.Name, netip.AddrPortFrom(p.To, p.Port), device, c.Config.TUN.Name)
		return asked
	}
	return asked
}

// isUpstreamAddr is isUpstreamLink for the prefix that contains a.
func isUpstreamAddr(c *checker, a netip.Addr, link string) bool {
	return slices.ContainsFunc(c.Config.TUN.Routes, func(r netip.Prefix) bool { return r.Contains(a) && isUpstreamLink(c, r, link) })
}

// neighborAddr returns an address that packets may come from by a link: the one
// next to its own, unless the host has it.
func neighborAddr(l Link, to netip.Addr, links []Link) (netip.Addr, bool) {
	isOwn := func(a netip.Addr) bool {
		return slices.ContainsFunc(links, func(l Link) bool {
			return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
		})
	}
	for _, p := range l.Addrs {
		if p.Addr().Is4() != to.Is4() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		for _, a := range []netip.Addr{p.Addr().Next(), p.Addr().Prev()} {
			if a != to && !isOwn(a) && p.Contains(a) && a != p.Masked().Addr() {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}
