package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkRoutes checks that packets for the prefixes of tun.routes reach the
// gateway.
func checkRoutes(_ context.Context, c *checker) {
	links, ok := query(c, c.host.Links)
	if !ok {
		return
	}
	before := len(c.findings)
	for _, r := range c.Config.TUN.Routes {
		for _, l := range links {
			checkRouteOnLink(c, r, l)
		}
		if c.Existing && c.host.Route != nil {
			if device, err := c.host.Route(r.Addr()); err != nil || device != c.Config.TUN.Name {
				c.report(Fail, fmt.Sprintf("ip route add %s dev %s metric 64", r, termsafe.Shell(c.Config.TUN.Name)),
					"%s is not routed to the prepared %s", r, c.Config.TUN.Name)
			}
		}
	}
	if c.running && !c.Existing && c.host.MissingRoutes != nil {
		missing, _, err := c.host.MissingRoutes()
		switch {
		case err != nil:
			c.failed(err)
		case len(missing) > 0:
			c.report(Fail, restartFix, "the gateway is running, and another process has removed: %s", strings.Join(missing, "; "))
		}
	}

	if len(c.findings) == before && len(c.Config.TUN.Routes) > 0 {
		c.ok("nothing on this host conflicts with %d prefixes; whether neighbors route them here cannot be determined from here", len(c.Config.TUN.Routes))
	}
}

// checkRouteOnLink checks the prefix r against the addresses of an interface.
// The host answers for its own addresses, and no host answers neighbor queries
// for addresses within the network of an interface.
func checkRouteOnLink(c *checker, r netip.Prefix, l Link) {
	for _, a := range l.Addrs {
		switch {
		case r.Contains(a.Addr()) && isUpstreamLink(c, r, l.Name): // the gateway's own subnet
		case r.Contains(a.Addr()):
			consequence := "a gateway that starts refuses to take it from the host; one that is running has taken it, except for the host itself"
			if c.Existing { // no rule of knockgw's precedes the host's addresses
				consequence = "its kernel answers for it"
			}
			c.report(Fail, fmt.Sprintf("ip addr del %s dev %s # or hide ports of it with tun.local instead", a, termsafe.Shell(l.Name)),
				"%s, in %s, is an address of this host: %s", a.Addr(), r, consequence)
		case a.Overlaps(r) && l.Name != c.Config.TUN.Name && a.Bits() < r.Bits():
			if fix := neighborProxyFix(c, l.Name, r); fix != "" {
				c.report(Warn, fix, "%s is part of the network of %s (%s), whose hosts query its addresses, and no host answers", r, l.Name, a.Masked())
			}
		}
	}
}

// isUpstreamLink reports whether hosts of the prefix r are behind an interface.
func isUpstreamLink(c *checker, r netip.Prefix, link string) bool {
	return slices.Contains(bypass.ProtectedBy(c.Config).Routes.UpstreamLinks, routing.UpstreamLink{Prefix: r, Device: link})
}

// neighborProxyFix returns the commands that make the interface answer neighbor
// queries for the services' addresses in a prefix, or "" if it does.
func neighborProxyFix(c *checker, link string, r netip.Prefix) string {
	if r.Addr().Is4() && c.host.Setting != nil {
		for _, name := range []string{"all", link} {
			if on, err := c.setting("ipv4/conf/" + name + "/proxy_arp"); err == nil && on != 0 {
				return ""
			}
		}
	}
	var have []netip.Addr
	if c.host.ProxiedAddrs != nil {
		have, _ = c.host.ProxiedAddrs(link) // on an error, assume none
	}

	var commands []string
	if r.Addr().Is6() && c.host.Setting != nil {
		if on, err := c.setting("ipv6/conf/" + link + "/proxy_ndp"); err != nil || on == 0 {
			commands = append(commands, "sysctl -w net.ipv6.conf."+sysctlName(link)+".proxy_ndp=1")
		}
	}
	for i := range c.Config.Services {
		a := c.Config.Services[i].Listen.Addr()
		command := fmt.Sprintf("ip neigh add proxy %s dev %s", a, termsafe.Shell(link))
		if r.Contains(a) && !slices.Contains(have, a) && !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	return strings.Join(commands, " && ")
}
