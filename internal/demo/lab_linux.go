package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/tun"
)

const (
	linkName  = "eth0" // of everybody's one link, except the gateway's
	linkBits4 = 24
	linkBits6 = 64
	// clientLink is the number of the client's link; the attacker's and the upstream's come after it.
	clientLink = 1

	upTime = 5 * time.Second // for a link to carry packets; it takes milliseconds
	upPoll = time.Millisecond

	cloneDevice = "/dev/net/tun"
	ipv6Root    = sysctlRoot + "/ipv6" // absent where the kernel has no IPv6
)

// A family is the lab's addresses of one IP version.
type family struct {
	protected netip.Prefix
	hidden    netip.Addr                    // of the service, in protected
	link      func(n, last byte) netip.Addr // an address on link n
}

func families() []family {
	all := []family{{
		protected: netip.MustParsePrefix("10.77.0.0/24"), hidden: netip.MustParseAddr("10.77.0.1"),
		link: func(n, last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, n, last}) },
	}, {
		protected: netip.MustParsePrefix("fd77::/64"), hidden: netip.MustParseAddr("fd77::1"),
		link: func(n, last byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 3: n, 15: last}) },
	}}
	if _, err := os.Stat(ipv6Root); errors.Is(err, fs.ErrNotExist) {
		return all[:1]
	}
	return all
}

// A lab is the four hosts. See the package comment for the drawing.
type lab struct {
	families                            []family
	client, attacker, gateway, upstream *host
	// routers are the gateway's addresses on the attacker's link, and
	// toUpstream those on the upstream's.
	routers, toUpstream []netip.Addr
}

// newLab builds the lab. Its errors match fs.ErrPermission and tun.ErrNoTUN.
func newLab(ctx context.Context) (l *lab, err error) {
	l = &lab{families: families()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	for _, h := range []struct {
		name string
		host **host
	}{{"gateway", &l.gateway}, {"client", &l.client}, {"attacker", &l.attacker}, {"upstream", &l.upstream}} {
		if *h.host, err = newHost(h.name); err != nil {
			return l, err
		}
	}
	if err := haveTUN(); err != nil {
		return l, err
	}
	if err := l.gateway.set("ipv4/ip_forward", "1"); err != nil {
		return l, fmt.Errorf("make the gateway a router: %w", err)
	}
	if len(l.families) > 1 {
		for _, h := range []*host{l.gateway, l.client, l.attacker, l.upstream} {
			// Some hosts have new namespaces begin without IPv6.
			if err := errors.Join(h.set("ipv6/conf/all/disable_ipv6", "0"), h.set("ipv6/conf/default/disable_ipv6", "0"),
				h.set("ipv6/conf/default/accept_dad", "0")); err != nil {
				return l, fmt.Errorf("set up IPv6 of the %s: %w", h.name, err)
			}
		}
		if err := l.gateway.set("ipv6/conf/all/forwarding", "1"); err != nil {
			return l, fmt.Errorf("make the gateway a router: %w", err)
		}
	}
	for i, h := range []*host{l.client, l.attacker, l.upstream} {
		routers, err := l.join(ctx, h, byte(clientLink+i))
		if err != nil {
			return l, fmt.Errorf("link the %s to the gateway: %w", h.name, err)
		}
		switch h {
		case l.attacker:
			l.routers = routers
		case l.upstream:
			l.toUpstream = routers
		}
	}
	return l, nil
}

// haveTUN tells early what the gateway would otherwise say in its log.
func haveTUN() error {
	f, err := os.OpenFile(cloneDevice, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; let this user, or this container, use the device", err)
	default:
		return fmt.Errorf("%w: %w; load the tun module or pass the device into the container", tun.ErrNoTUN, err)
	}
}

// join links a host to the gateway as link n. The gateway gets the link's first
// addresses, and everything that the host sends goes there.
func (l *lab) join(ctx context.Context, h *host, n byte) (routers []netip.Addr, err error) {
	for _, f := range l.families {
		routers = append(routers, f.link(n, 1))
		h.addrs = append(h.addrs, f.link(n, 2))
	}
	// The peer is made in its own namespace, so that its name can be everybody's.
	err = l.gateway.routes.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: h.name},
		PeerName:      linkName,
		PeerNamespace: netlink.NsFd(h.ns),
	})
	if err != nil {
		return nil, fmt.Errorf("add a veth pair: %w", err)
	}
	if err := errors.Join(l.gateway.configure(h.name, routers...), h.configure(linkName, h.addrs...)); err != nil {
		return nil, err
	}
	if err := errors.Join(l.gateway.carries(ctx, h.name), h.carries(ctx, linkName)); err != nil {
		return nil, err
	}
	if h == l.upstream {
		return routers, nil // it talks to the gateway, and has no way to anybody else
	}
	for _, r := range routers {
		if err := h.routes.RouteAdd(&netlink.Route{Gw: r.AsSlice()}); err != nil {
			return nil, fmt.Errorf("route everything through %v: %w", r, err)
		}
	}
	return routers, nil
}

// carries waits until an interface carries packets: the kernel activates it,
// and its IPv6 addresses, a moment after both ends are up, and until then drops
// in silence whatever it is given.
func (h *host) carries(ctx context.Context, name string) error {
	ready := func() (bool, error) {
		link, err := h.routes.LinkByName(name)
		if err != nil {
			return false, fmt.Errorf("find interface %s: %w", name, err)
		}
		addrs, err := h.routes.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return false, fmt.Errorf("list the addresses of %s: %w", name, err)
		}
		tentative := slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 })
		return link.Attrs().OperState == netlink.OperUp && !tentative, nil
	}
	return poll(ctx, wait{upTime, upPoll, "interface " + name + " to be up"}, ready)
}

// A wait says how long to wait for what, and how often to look.
type wait struct {
	most, between time.Duration
	what          string
}

// errTooLong is poll's own error.
var errTooLong = errors.New("waited too long")

// poll waits until done says so; errTooLong: it has not.
func poll(ctx context.Context, w wait, done func() (bool, error)) error {
	for end := time.Now().Add(w.most); ; {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %v for %s", errTooLong, w.most, w.what)
		}
		if err := sleep(ctx, w.between); err != nil {
			return err
		}
	}
}

// sleep is time.Sleep that ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close gives the hosts up.
func (l *lab) close() error {
	var err error
	for _, h := range []*host{l.client, l.attacker, l.upstream, l.gateway} {
		if h != nil {
			err = errors.Join(err, h.close())
		}
	}
	return err
}

// protects tells whether an address is in one of the protected prefixes.
func (l *lab) protects(a netip.Addr) bool {
	return slices.ContainsFunc(l.families, func(f family) bool { return f.protected.Contains(a) })
}

// hidden lists the service's addresses.
func (l *lab) hidden() []netip.Addr {
	var all []netip.Addr
	for _, f := range l.families {
		all = append(all, f.hidden)
	}
	return all
}

// picture draws the lab.
func (l *lab) picture() string {
	var prefixes []string
	for _, f := range l.families {
		prefixes = append(prefixes, f.protected.String())
	}
	return fmt.Sprintf(`client   %[1]s ---.
                               >--- gateway --- upstream %[3]s
attacker %[2]s ---'       |
                                 knock0, the TUN device: all packets to
                                 %[4]s go to knockgw
`, both(l.client.addrs), both(l.attacker.addrs), both(l.upstream.addrs), strings.Join(prefixes, " and "))
}

// both writes a host's addresses in a fixed number of columns.
func both(addrs []netip.Addr) string {
	return fmt.Sprintf("%-17s", strings.Trim(fmt.Sprint(addrs), "[]"))
}
