package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/routing"
)

// A setup is one configuration made ready for use. A reload makes a new one beside
// it; flows that have begun keep what they have of theirs.
type setup struct {
	cfg      *config.Config
	policy   *policy.Policy
	services map[string]*service
}

// newSetup makes a setup that is to come after another, nil for the first. It
// touches nothing but the listeners of its own new services.
func (g *Gateway) newSetup(cfg *config.Config, after *setup) (*setup, error) {
	s := &setup{cfg: cfg, services: make(map[string]*service)}
	var before *policy.Policy
	if after != nil {
		before = after.policy
	}
	var err error
	if s.policy, err = gateconfig.Policy(cfg, before); err != nil {
		return nil, err
	}
	for i := range cfg.Services {
		c := cfg.Services[i] // a copy: a flow must not keep all of a configuration
		svc, err := g.newService(&c, cfg.Knock.Window)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Name, err)
		}
		if c.Upstream.IsZero() {
			if svc.listener = after.listener(&c); svc.listener == nil {
				svc.listener = newListener(&c)
			}
		}
		s.services[c.Name] = svc
	}
	return s, nil
}

// listener returns that of a service without an upstream, if it has one at the
// same address.
func (s *setup) listener(c *config.Service) *listener {
	if s == nil {
		return nil
	}
	if old := s.services[c.Name]; old != nil && old.listener != nil && old.Listen == c.Listen && old.Port == c.Port {
		return old.listener
	}
	return nil
}

// shut ends the listeners, but those that next has as well; nil for none.
func (s *setup) shut(next *setup) {
	for _, svc := range s.services {
		if l := svc.listener; l != nil && (next == nil || next.listener(svc.Service) != l) {
			l.shut()
		}
	}
}

// clients are the ids of the configuration's clients.
func (s *setup) clients() map[string]bool {
	all := make(map[string]bool, len(s.cfg.Clients))
	for i := range s.cfg.Clients {
		all[s.cfg.Clients[i].ID] = true
	}
	return all
}

// openPorts lists the ports of services whose strangers' SYNs are answered.
func (s *setup) openPorts() []uint16 {
	var ports []uint16
	for _, svc := range s.policy.Services() {
		if svc.Open() && !slices.Contains(ports, svc.Port) {
			ports = append(ports, svc.Port)
		}
	}
	return ports
}

// setup returns that by whose policy the gate judges.
func (p *parts) setup() *setup {
	for {
		policy := p.gate.Policy()
		if s := p.g.now.Load(); s.policy == policy {
			return s
		}
		if s := p.g.next.Load(); s != nil && s.policy == policy {
			return s
		}
		// A reload has come to its end between our looks.
	}
}

// checkRoutes refuses services that are outside of what is routed to the device:
// routes are made at the start alone.
func checkRoutes(cfg *config.Config) error {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if !cfg.TUN.Hides(s) && !slices.ContainsFunc(cfg.TUN.Routes, func(r netip.Prefix) bool { return covers(r, s.Listen) }) {
			return fmt.Errorf("service %q: %s is in none of the routes that the gateway was started with (%v), "+
				"nor is it one of the ports of tun.local then (%v), "+
				"and both wait for a restart: restart the gateway", s.Name, s.Listen, cfg.TUN.Routes, cfg.TUN.Local)
		}
	}
	return nil
}

// checkInside refuses upstreams behind an interface from which packets for a
// protected prefix go to the device: their answers would not come back. The rules
// that exempt an interface are made at the start alone.
func checkInside(cfg *config.Config, started []routing.UpstreamLink) error {
	for _, in := range bypass.ProtectedBy(cfg).Routes.UpstreamLinks {
		if !slices.Contains(started, in) {
			return fmt.Errorf("upstream_device %s: its hosts have addresses of %s, and a rule for that is added at a start only: restart the gateway", in.Device, in.Prefix)
		}
	}
	return nil
}

// covers tells whether all of b is in a.
func covers(a, b netip.Prefix) bool { return a.Bits() <= b.Bits() && a.Contains(b.Addr()) }

// checkUpstreams refuses an upstream that would be reached through the device
// itself: its flows would come back as strangers' packets.
func checkUpstreams(cfg *config.Config, device string) error {
	asked := make(map[netip.Addr]bool) // the kernel is asked once for each address
	for i := range cfg.Services {
		s := &cfg.Services[i]
		addr, err := netip.ParseAddr(s.Upstream.Host)
		if err != nil || s.UpstreamDevice != "" || asked[addr] {
			continue // a name, or bound to another interface
		}
		asked[addr] = true
		if routing.RouteInterface(addr) == device {
			return fmt.Errorf("service %q: the route to its upstream %s leads into %s itself; give the upstream a route of its own", s.Name, addr, device)
		}
	}
	return nil
}
