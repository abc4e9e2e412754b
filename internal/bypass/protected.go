package bypass

import (
	"net/netip"
	"slices"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/routing"
)

// ProtectedBy returns the part of a configuration that Evaluate needs.
func ProtectedBy(cfg *config.Config) *Protected {
	p := &Protected{
		Device:    cfg.TUN.Name,
		Routes:    routing.Routes{Prefixes: cfg.TUN.Routes},
		HostPorts: routing.HostPorts{Ports: cfg.TUN.Local, UDP: cfg.LocalUDP()},
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		p.Services = append(p.Services, s.Listen)
		for _, prefix := range cfg.TUN.Routes {
			in := routing.UpstreamLink{Prefix: prefix, Device: s.UpstreamDevice}
			if s.UpstreamDevice != "" && upstreamWithin(s, prefix) && !slices.Contains(p.Routes.UpstreamLinks, in) {
				p.Routes.UpstreamLinks = append(p.Routes.UpstreamLinks, in)
			}
		}
	}
	return p
}

// upstreamWithin reports whether an upstream of a service has an address of the
// prefix: its answers then arrive by its interface, and must not be routed to
// the device.
func upstreamWithin(s *config.Service, prefix netip.Prefix) bool {
	if s.Upstream.Original {
		return s.Listen.Overlaps(prefix)
	}
	a, err := netip.ParseAddr(s.Upstream.Host)
	return err == nil && prefix.Contains(a.Unmap())
}
