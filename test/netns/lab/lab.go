//go:build linux

package lab

import (
	"testing"

	"github.com/knockgw/knockgw/internal/netlab"
)

// The protected prefixes, which knockgw routes to its device.
var (
	Protected4 = netlab.Protected4()
	Protected6 = netlab.Protected6()
)

const (
	// Link is the name of the one interface of the client, the attacker and the
	// upstream.
	Link = netlab.Link
	// Tunnel is the name of the gateway's device in the lab.
	Tunnel = netlab.Tunnel
)

// A Lab is the four hosts of one test.
type Lab struct {
	Client   *Host
	Attacker *Host
	Gateway  *Host
	Upstream *Host

	// TUN is further lines of the section tun in the configurations of the lab's
	// gateways.
	TUN string

	tb testing.TB
}

// New builds a lab that ends with the test, or skips the test where labs cannot
// be built.
func New(tb testing.TB) *Lab {
	tb.Helper()
	Require(tb)
	built, err := netlab.New(tb.Context())
	if err != nil {
		tb.Fatalf("build a lab: %v", err)
	}
	tb.Cleanup(func() {
		if err := built.Close(); err != nil {
			tb.Errorf("close the lab: %v", err)
		}
	})

	host := func(h *netlab.Host) *Host { return &Host{Host: h, tb: tb} }
	return &Lab{
		Client: host(built.Client), Attacker: host(built.Attacker),
		Gateway: host(built.Gateway), Upstream: host(built.Upstream), tb: tb,
	}
}
