package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// checkHostPorts checks that the ports of tun.local can be hidden.
func checkHostPorts(_ context.Context, c *checker) {
	if len(c.Config.TUN.Local) == 0 || c.host.Links == nil {
		return
	}
	links, ok := query(c, c.host.Links)
	if !ok {
		return
	}

	before := len(c.findings)
	for _, p := range c.Config.TUN.Local {
		checkHostPort(c, p, links)
	}
	if len(c.findings) == before && c.host.UnavailableAddrs != nil {
		unavailable, err := c.host.UnavailableAddrs()
		if err != nil {
			c.failed(err)
		}
		for _, reason := range unavailable {
			c.report(Warn, "ip addr # wait until it has gone, or correct tun.local", "%s; until then its ports are silent, for clients too", reason)
		}
	}

	if c.running && c.host.MissingRoutes != nil {
		_, missing, err := c.host.MissingRoutes()
		switch {
		case err != nil:
			c.failed(err)
		case len(missing) > 0:
			c.report(Fail, restartFix, "the gateway is running, and another process has removed: %s", strings.Join(missing, "; "))
		}
	}
	if len(c.findings) == before {
		c.ok("%d can be hidden", len(c.Config.TUN.Local))
	}
}

// checkHostPort checks that the host has the address of p and that the port is
// free.
func checkHostPort(c *checker, p netip.AddrPort, links []Link) {
	has := func(a netip.Prefix) bool { return a.Addr() == p.Addr() }
	if !slices.ContainsFunc(links, func(l Link) bool { return slices.ContainsFunc(l.Addrs, has) }) {
		c.report(Fail, "correct tun.local, or ip addr add "+p.Addr().String()+" dev IFACE", "%s is not an address of this host", p.Addr())
		return
	}
	if c.running || c.host.Bind == nil {
		return
	}
	for _, udp := range []bool{false, true} {
		if err := c.host.Bind(p, udp); err != nil && !errors.Is(err, fs.ErrPermission) {
			c.report(Fail, fmt.Sprintf("have it listen at 127.0.0.1:%d (sshd: ListenAddress 127.0.0.1), and make that the upstream", p.Port()),
				"another process listens on %s: %v", p, err)
		}
	}
}
