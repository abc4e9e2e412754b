package netlab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	loopback = "lo"

	// The prefix lengths of links.
	linkBits4 = 24
	linkBits6 = 64

	upTimeout  = 5 * time.Second // for an interface to carry packets; it takes milliseconds
	upInterval = time.Millisecond
)

// A Host is one machine of a lab: a network namespace with a loopback and,
// except for the gateway, one link. Its methods may be called by any goroutine.
type Host struct {
	Name string
	// Addr4 and Addr6 are the addresses that the host uses by default; Other4
	// and Other6 are further addresses of its link. The gateway has none of
	// them, and without IPv6 in the kernel those of IPv6 are invalid.
	Addr4, Addr6, Other4, Other6 netip.Addr
	// Router4 and Router6 are the gateway's addresses on the host's link.
	Router4, Router6 netip.Addr
	// Routes speaks rtnetlink with the host's kernel.
	Routes *netlink.Handle

	Namespace
}

// newHost makes a host with nothing but a loopback.
func newHost(name string) (*Host, error) {
	ns, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Namespace: ns}
	if h.Routes, err = netlink.NewHandleAt(ns.handle, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the %s: open a netlink socket: %w", name, err), h.Close())
	}
	if err := errors.Join(h.enableIPv6(), h.Configure(loopback)); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the %s: %w", name, err), h.Close())
	}
	return h, nil
}

// enableIPv6 makes addresses of IPv6 usable at once, link-local ones included.
// Some systems disable IPv6 in new namespaces.
func (h *Host) enableIPv6() error {
	if !haveIPv6() {
		return nil
	}
	for _, conf := range []string{"all", "default"} {
		for _, setting := range []string{"disable_ipv6", "accept_dad"} {
			if err := h.Set("ipv6/conf/"+conf+"/"+setting, "0"); err != nil {
				return fmt.Errorf("set up IPv6: %w", err)
			}
		}
	}
	return nil
}

// Close releases the host; its namespace ends with the last socket in it.
func (h *Host) Close() error {
	if h.Routes != nil {
		h.Routes.Close()
	}
	return h.Namespace.Close()
}

// Addrs returns the host's default addresses, one for each family.
func (h *Host) Addrs() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{h.Addr4, h.Addr6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// Addr returns the host's default address of the family of other.
func (h *Host) Addr(other netip.Addr) netip.Addr {
	if other.Unmap().Is4() {
		return h.Addr4
	}
	return h.Addr6
}

// Other returns the host's second address of the family of other.
func (h *Host) Other(other netip.Addr) netip.Addr {
	if other.Unmap().Is4() {
		return h.Other4
	}
	return h.Other6
}

// Configure adds addresses to an interface and sets it up.
func (h *Host) Configure(name string, addrs ...netip.Addr) error {
	link, err := h.Routes.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := h.Routes.AddrAdd(link, onLink(a)); err != nil {
			return fmt.Errorf("add %v to %s: %w", a, name, err)
		}
	}
	if err := h.Routes.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// Deprecate keeps the kernel from choosing an IPv6 address of the host's link
// as the source: of two it takes the newer, unlike of two IPv4 addresses.
func (h *Host) Deprecate(a netip.Addr) error {
	link, err := h.Routes.LinkByName(Link)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", Link, err)
	}
	deprecated := onLink(a)
	deprecated.ValidLft = math.MaxInt32 // 68 years, and preferred for no time at all
	if err := h.Routes.AddrReplace(link, deprecated); err != nil {
		return fmt.Errorf("deprecate %v: %w", a, err)
	}
	return nil
}

// onLink returns an address with its link's prefix, usable at once: duplicate
// address detection takes a second, and a duplicate is impossible here.
func onLink(a netip.Addr) *netlink.Addr {
	bits := linkBits4
	if a.Is6() {
		bits = linkBits6
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

// waitUp waits until an interface carries packets: the kernel activates it, and
// its IPv6 addresses, a moment after both ends are up, and drops packets
// silently until then.
func (h *Host) waitUp(ctx context.Context, name string) error {
	up := func() (bool, error) {
		link, err := h.Routes.LinkByName(name)
		if err != nil {
			return false, fmt.Errorf("find interface %s: %w", name, err)
		}
		addrs, err := h.Routes.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return false, fmt.Errorf("list the addresses of %s: %w", name, err)
		}
		tentative := slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 })
		return link.Attrs().OperState == netlink.OperUp && !tentative && (len(addrs) > 0 || !haveIPv6()), nil
	}
	return Poll(ctx, Wait{upTimeout, upInterval, "interface " + name + " to be up"}, up)
}

// Dial connects from the host to an address of the form that net.Dialer takes,
// without name resolution.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialFrom(ctx, netip.Addr{}, network, address)
}

// DialFrom is Dial with one of the host's addresses as the source; the zero Addr
// leaves the choice to the kernel. The socket stays in the host's namespace.
func (h *Host) DialFrom(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	// One address and no name: the socket is made on this thread.
	var d net.Dialer
	switch {
	case !from.IsValid():
	case strings.HasPrefix(network, "udp"):
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	default:
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := h.DialBy(ctx, &d, network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	return conn, nil
}

// DialBy is Dial with a dialer of the caller's.
func (h *Host) DialBy(ctx context.Context, by *net.Dialer, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = by.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on the host, without Multipath TCP, which Go's listeners speak
// by default and no service behind a gateway does.
func (h *Host) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	err = h.Do(func() error {
		l, err = config.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket on the host.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (c net.PacketConn, err error) {
	var config net.ListenConfig
	err = h.Do(func() error {
		c, err = config.ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}
