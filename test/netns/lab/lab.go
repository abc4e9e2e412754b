//go:build linux

package lab

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The protected prefixes, which knockgw routes to its device.
var (
	Protected4 = netip.MustParsePrefix("10.77.0.0/24")
	Protected6 = netip.MustParsePrefix("fd77::/64")
)

const (
	// Link is the name of the one interface of the client, the attacker and the upstream.
	Link = "gw0"
	// Tunnel is the name that knockgw gives its device in the lab.
	Tunnel = "knock0"

	loopback = "lo"

	upTime = 5 * time.Second // for an interface to carry packets; it takes milliseconds
	upPoll = time.Millisecond
)

// A Lab is the four hosts of one test. See the package comment for the drawing.
type Lab struct {
	Client   *Host
	Attacker *Host
	Gateway  *Host
	Upstream *Host

	// TUN is further lines of the section tun in the configurations of the lab's gateways.
	TUN string

	tb testing.TB
}

// New builds a lab that ends with the test, or skips the test where it may not.
func New(tb testing.TB) *Lab {
	tb.Helper()
	Require(tb)
	l := &Lab{tb: tb}
	l.Gateway = newHost(tb, "gateway", 0)
	l.Client = newHost(tb, "client", 1)
	l.Attacker = newHost(tb, "attacker", 2)
	l.Upstream = newHost(tb, "upstream", 3)
	for _, setting := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := l.Gateway.ns.set(setting, "1"); err != nil {
			tb.Fatalf("make the gateway a router: %v", err)
		}
	}
	for _, h := range []*Host{l.Client, l.Attacker, l.Upstream} {
		if err := l.join(h); err != nil {
			tb.Fatalf("link %s to the gateway: %v", h.Name, err)
		}
	}
	return l
}

// join links a host to the gateway, which gets the first address of the link, and routes everything there.
func (l *Lab) join(h *Host) error {
	ours := h.Name + "0"
	// The peer is named in its own namespace, so that the name Link can be every host's.
	err := l.Gateway.routes.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: ours},
		PeerName:      Link,
		PeerNamespace: netlink.NsFd(int(h.ns.handle)),
	})
	if err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	if err := l.Gateway.configure(ours, h.router4, h.router6); err != nil {
		return err
	}
	if err := h.configure(Link, h.Addr4, h.Addr6, h.Other4, h.Other6); err != nil {
		return err
	}
	if err := h.deprecate(h.Other6); err != nil {
		return err
	}
	if err := errors.Join(l.Gateway.carries(ours), h.carries(Link)); err != nil {
		return err
	}
	for _, router := range []netip.Addr{h.router4, h.router6} {
		if err := h.routes.RouteAdd(&netlink.Route{Gw: router.AsSlice()}); err != nil {
			return fmt.Errorf("route everything through %v: %w", router, err)
		}
	}
	return nil
}

// configure gives an interface its addresses and sets it up.
func (h *Host) configure(name string, addrs ...netip.Addr) error {
	link, err := h.routes.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := h.routes.AddrAdd(link, onLink(a)); err != nil {
			return fmt.Errorf("add %v to %s: %w", a, name, err)
		}
	}
	if err := h.routes.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// deprecate keeps the kernel from choosing an IPv6 address as the source: of two it takes the newer, unlike of
// two IPv4 addresses.
func (h *Host) deprecate(other netip.Addr) error {
	link, err := h.routes.LinkByName(Link)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", Link, err)
	}
	deprecated := onLink(other)
	deprecated.ValidLft = math.MaxInt32 // 68 years, and preferred for no time at all
	if err := h.routes.AddrReplace(link, deprecated); err != nil {
		return fmt.Errorf("deprecate %v: %w", other, err)
	}
	return nil
}

// carries waits until an interface carries packets: the kernel activates it, and its IPv6 addresses, a moment
// after both ends are up, and until then drops in silence whatever it is given.
func (h *Host) carries(name string) error {
	for range upTime / upPoll {
		link, err := h.routes.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", name, err)
		}
		addrs, err := h.routes.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return fmt.Errorf("list the addresses of %s: %w", name, err)
		}
		tentative := slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
			return a.Flags&unix.IFA_F_TENTATIVE != 0
		})
		if link.Attrs().OperState == netlink.OperUp && len(addrs) > 0 && !tentative {
			return nil
		}
		time.Sleep(upPoll)
	}
	return fmt.Errorf("interface %s is not up after %v", name, upTime)
}

// onLink is an address with its link's prefix, usable at once: a duplicate is impossible in here, and
// looking for one takes a second.
func onLink(a netip.Addr) *netlink.Addr {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}
