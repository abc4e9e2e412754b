package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// dialTimeout bounds a connection to an upstream, including the lookup of its
// name.
const dialTimeout = 3 * time.Second

// checkUpstreams checks that the upstream of each service resolves and answers,
// and is not reached through the gateway.
func checkUpstreams(ctx context.Context, c *checker) {
	for i := range c.Config.Services {
		s := &c.Config.Services[i]
		if s.Upstream.Host == "" {
			continue // the original destination, or the embedding program
		}
		checkUpstream(ctx, c.named("upstream of "+s.Name), s)
	}
}

func checkUpstream(ctx context.Context, c *checker, s *config.Service) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, port, device := s.Upstream.Host, s.Upstream.Port, s.UpstreamDevice
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = c.host.Resolve(ctx, host); err != nil || len(addrs) == 0 {
		c.report(Fail, "correct services[].upstream, or the resolver: getent hosts "+termsafe.Shell(host), "%s does not resolve: %v", host, err)
		return
	}

	for _, a := range addrs {
		a = a.Unmap()
		if device == "" && leadsBack(c, a, port) {
			c.report(Fail, fmt.Sprintf("ip route add %s via GATEWAY dev IFACE, or choose another upstream", netip.PrefixFrom(a, a.BitLen())),
				"%s is routed back into %s, like packets from outside", a, c.Config.TUN.Name)
			return
		}
	}

	address := netip.AddrPortFrom(addrs[0].Unmap(), port).String()
	if c.SkipUpstreams || device != "" {
		c.ok("%s; not dialed", address)
		return
	}
	if err := c.host.Dial(ctx, address); err != nil {
		c.report(Warn, "start the service, or correct services[].upstream", "%s does not answer: %v", address, err)
		return
	}
	c.ok("%s answers", address)
}

// leadsBack reports whether the host would send packets for a to the gateway.
func leadsBack(c *checker, a netip.Addr, port uint16) bool {
	if slices.ContainsFunc(c.Config.TUN.Routes, func(r netip.Prefix) bool { return r.Contains(a) }) ||
		slices.Contains(c.Config.TUN.Local, netip.AddrPortFrom(a, port)) {
		return true
	}
	if c.host.Route == nil {
		return false
	}
	device, _ := c.host.Route(a)
	return device != "" && device == c.Config.TUN.Name
}
