package config

import (
	"net/netip"
	"runtime"
	"slices"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// maxLocalPort is the last port that routing rules of the kernel can match.
const maxLocalPort = 65534

// parseLocal reads tun.local: ports of the host's own addresses.
func (p *parser) parseLocal(s *strictyaml.Section) {
	t := &p.c.TUN
	s.Texts("local", "name the ports to hide, as 203.0.113.7:22", func(it strictyaml.Item, text string) {
		prefix, port, err := parseListen(text)
		switch {
		case err != nil:
			p.Fail(it.Node, it.Path, "%q: %v", text, err)
		case runtime.GOOS != "linux":
			p.Fail(it.Node, it.Path, "needs Linux; remove it")
		case !prefix.IsSingleIP():
			p.Fail(it.Node, it.Path, "%q is more than one address; name an address of this host and a port, as 203.0.113.7:22", text)
		case port > maxLocalPort:
			p.Fail(it.Node, it.Path, "Linux cannot route by port %d; choose another one", port)
		case prefix.Addr().IsLoopback():
			p.Fail(it.Node, it.Path, "%s cannot be reached from outside; name an address that clients dial", prefix.Addr())
		default:
			t.Local = append(t.Local, netip.AddrPortFrom(prefix.Addr(), port))
			p.local = append(p.local, it)
		}
	})
}

// checkLocal checks tun.local for duplicates, and for conflicts with tun.routes
// and metrics.listen.
func (p *parser) checkLocal() {
	for i, port := range p.c.TUN.Local {
		it := p.local[i]
		if j := slices.Index(p.c.TUN.Local, port); j < i {
			p.Fail(it.Node, it.Path, "%s is already given in line %d; remove one of them", port, p.local[j].Node.Line)
		}
		if route, covered := p.routeOf(port.Addr()); covered {
			p.Fail(it.Node, it.Path, "%s is already in the route %s; remove one of them: tun.local is for addresses of the host", port, route)
		}
		if port.Addr().Is6() && p.c.TUN.MTU < minMTUv6 {
			p.tun.FailKey("mtu", "%d is too little for IPv6; write %d or more", p.c.TUN.MTU, minMTUv6)
		}
		if p.c.Metrics.Listen == port {
			p.metrics.FailKey("listen", "%s is hidden by tun.local; choose another port", port)
		}
	}
}

// LocalUDP returns the ports at which the host's own addresses of tun.local
// accept UDP knocks for every service, in addition to those of tun.local
// itself.
func (c *Config) LocalUDP() []netip.AddrPort {
	var all []netip.AddrPort
	for _, port := range c.TUN.Local {
		p := netip.AddrPortFrom(port.Addr(), c.Knock.UDPPort)
		if !slices.Contains(c.TUN.Local, p) && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Hides reports whether tun.local directs the packets of s to the device.
func (t *TUN) Hides(s *Service) bool {
	return s.Listen.IsSingleIP() && slices.Contains(t.Local, netip.AddrPortFrom(s.Listen.Addr(), s.Port))
}
