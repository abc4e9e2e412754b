package netlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/knockgw/knockgw/tun"
)

const (
	// Link is the name of the one interface of the client, the attacker and the
	// upstream.
	Link = "gw0"
	// Tunnel is the name of the gateway's TUN device.
	Tunnel = "knock0"
	// TUNDevice is the device that makes TUN devices.
	TUNDevice = "/dev/net/tun"

	ipv6Root = sysctlRoot + "/ipv6" // absent if the kernel has no IPv6
)

// A Lab is the four hosts. See the package comment for the drawing.
type Lab struct {
	Client, Attacker, Gateway, Upstream *Host
}

// New builds a lab. Its error matches fs.ErrPermission if the caller may not.
func New(ctx context.Context) (l *Lab, err error) {
	l = &Lab{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()

	for _, h := range []struct {
		name string
		host **Host
	}{{"gateway", &l.Gateway}, {"client", &l.Client}, {"attacker", &l.Attacker}, {"upstream", &l.Upstream}} {
		if *h.host, err = newHost(h.name); err != nil {
			return l, err
		}
	}

	forwarding := []string{"ipv4/ip_forward"}
	if haveIPv6() {
		forwarding = append(forwarding, "ipv6/conf/all/forwarding")
	}
	for _, setting := range forwarding {
		if err := l.Gateway.Set(setting, "1"); err != nil {
			return l, fmt.Errorf("make the gateway a router: %w", err)
		}
	}

	for i, h := range l.linked() {
		h.number(byte(i + 1))
		if err := l.link(ctx, h); err != nil {
			return l, fmt.Errorf("link the %s to the gateway: %w", h.Name, err)
		}
	}
	return l, nil
}

// linked returns the hosts that have a link to the gateway, in its order.
func (l *Lab) linked() []*Host { return []*Host{l.Client, l.Attacker, l.Upstream} }

// number gives the host the addresses of link n.
func (h *Host) number(n byte) {
	on4 := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, n, last}) }
	on6 := func(last byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x01, 3: n, 15: last})
	}
	h.Router4, h.Addr4, h.Other4 = on4(1), on4(2), on4(3)
	if haveIPv6() {
		h.Router6, h.Addr6, h.Other6 = on6(1), on6(2), on6(3)
	}
}

// link makes the host's link to the gateway, which gets the first address, and
// routes all packets of the host there.
func (l *Lab) link(ctx context.Context, h *Host) error {
	far := h.Name + "0"
	routers, addrs := []netip.Addr{h.Router4}, []netip.Addr{h.Addr4, h.Other4}
	if haveIPv6() {
		routers, addrs = append(routers, h.Router6), append(addrs, h.Addr6, h.Other6)
	}

	// The peer is named in its own namespace, so that every host can have a
	// Link.
	err := l.Gateway.Routes.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: far},
		PeerName:      Link,
		PeerNamespace: netlink.NsFd(h.FD()),
	})
	if err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	if err := errors.Join(l.Gateway.Configure(far, routers...), h.Configure(Link, addrs...)); err != nil {
		return err
	}
	if haveIPv6() {
		if err := h.Deprecate(h.Other6); err != nil {
			return err
		}
	}
	if err := errors.Join(l.Gateway.waitUp(ctx, far), h.waitUp(ctx, Link)); err != nil {
		return err
	}

	for _, r := range routers {
		if err := h.Routes.RouteAdd(&netlink.Route{Gw: r.AsSlice()}); err != nil {
			return fmt.Errorf("route all packets through %v: %w", r, err)
		}
	}
	return nil
}

// Close releases the hosts.
func (l *Lab) Close() error {
	var err error
	for _, h := range append(l.linked(), l.Gateway) {
		if h != nil {
			err = errors.Join(err, h.Close())
		}
	}
	return err
}

// haveIPv6 reports whether the kernel has IPv6.
func haveIPv6() bool {
	_, err := os.Stat(ipv6Root)
	return !errors.Is(err, fs.ErrNotExist)
}

// CheckTUN reports why the caller cannot make TUN devices, with an error that
// matches fs.ErrPermission or tun.ErrNoTUN.
func CheckTUN() error {
	f, err := os.OpenFile(TUNDevice, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; let this user, or this container, use the device", err)
	default:
		return fmt.Errorf("%w: %w; load the tun module or pass the device into the container", tun.ErrNoTUN, err)
	}
}
