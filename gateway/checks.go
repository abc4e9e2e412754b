package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/routing"
)

// checkRoutes rejects services outside the prefixes that are routed to the
// device: routes are added only at the start.
func checkRoutes(cfg *config.Config) error {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if !cfg.TUN.Hides(s) && !slices.ContainsFunc(cfg.TUN.Routes, func(r netip.Prefix) bool { return covers(r, s.Listen) }) {
			return fmt.Errorf("service %q: %s is in none of the routes with which the gateway was started (%v) "+
				"and is not one of its ports in tun.local (%v); both change only with a restart: restart the gateway",
				s.Name, s.Listen, cfg.TUN.Routes, cfg.TUN.Local)
		}
	}
	return nil
}

// checkUpstreamLinks rejects upstreams behind an interface from which packets
// for a protected prefix go to the device: their answers would not come back.
// The rules that exempt an interface are added only at the start.
func checkUpstreamLinks(cfg *config.Config, started []routing.UpstreamLink) error {
	for _, link := range bypass.ProtectedBy(cfg).Routes.UpstreamLinks {
		if !slices.Contains(started, link) {
			return fmt.Errorf("upstream_device %s: its hosts have addresses of %s, and the rule for that is added only at the start: restart the gateway", link.Device, link.Prefix)
		}
	}
	return nil
}

// covers reports whether a contains all of b.
func covers(a, b netip.Prefix) bool { return a.Bits() <= b.Bits() && a.Contains(b.Addr()) }

// checkUpstreams rejects upstreams that are routed through the device itself:
// their flows would come back as packets of an unauthorized host.
func checkUpstreams(cfg *config.Config, device string) error {
	checked := make(map[netip.Addr]bool) // one query to the kernel per address
	for i := range cfg.Services {
		s := &cfg.Services[i]
		addr, err := netip.ParseAddr(s.Upstream.Host)
		if err != nil || s.UpstreamDevice != "" || checked[addr] {
			continue // a name, or bound to another interface
		}
		checked[addr] = true
		if routing.RouteInterface(addr) == device {
			return fmt.Errorf("service %q: the route to its upstream %s leads into %s itself; add a route of its own for the upstream", s.Name, addr, device)
		}
	}
	return nil
}
