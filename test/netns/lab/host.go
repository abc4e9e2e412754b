//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is one of the lab's machines: a network namespace with a loopback and, except for the gateway, one
// link. Its methods may be called from any goroutine.
type Host struct {
	Name string
	// Addr4 and Addr6 are what the host uses by default; Other4 and Other6 are further addresses of its
	// link, for whoever wants to come from somewhere else. The gateway has none of them.
	Addr4, Addr6, Other4, Other6 netip.Addr

	tb               testing.TB
	ns               namespace
	routes           *netlink.Handle
	router4, router6 netip.Addr
}

// newHost makes a host on link number n; 0 is the gateway, which stands on all of them.
func newHost(tb testing.TB, name string, n int) *Host {
	tb.Helper()
	ns, err := newNamespace()
	if err != nil {
		tb.Fatalf("make host %s: %v", name, err)
	}
	h := &Host{Name: name, tb: tb, ns: ns}
	tb.Cleanup(func() {
		if h.routes != nil {
			h.routes.Close()
		}
		if err := ns.close(); err != nil {
			tb.Errorf("give up host %s: %v", name, err)
		}
	})
	if h.routes, err = netlink.NewHandleAt(ns.handle, unix.NETLINK_ROUTE); err != nil {
		tb.Fatalf("talk to the kernel of host %s: %v", name, err)
	}
	if n > 0 {
		on4 := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(n), last}) }
		on6 := func(last byte) netip.Addr {
			return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x01, 3: byte(n), 15: last})
		}
		h.router4, h.Addr4, h.Other4 = on4(1), on4(2), on4(3)
		h.router6, h.Addr6, h.Other6 = on6(1), on6(2), on6(3)
	}
	// Link-local addresses too are to be usable at once.
	for _, conf := range []string{"all", "default"} {
		if err := ns.set("ipv6/conf/"+conf+"/accept_dad", "0"); err != nil {
			tb.Fatalf("set up IPv6 of host %s: %v", name, err)
		}
	}
	if err := h.configure(loopback); err != nil {
		tb.Fatalf("set up host %s: %v", name, err)
	}
	return h
}

// Addr is the host's address of the family that other is of.
func (h *Host) Addr(other netip.Addr) netip.Addr {
	if other.Unmap().Is4() {
		return h.Addr4
	}
	return h.Addr6
}

// Other is the host's second address of the family that other is of.
func (h *Host) Other(other netip.Addr) netip.Addr {
	if other.Unmap().Is4() {
		return h.Other4
	}
	return h.Other6
}

// Dropped is how many packets that were to leave by an interface the host's kernel has dropped: of a TUN device,
// those that its reader was too slow for and those that its filter refused.
func (h *Host) Dropped(link string) int {
	h.tb.Helper()
	found, err := h.routes.LinkByName(link)
	if err != nil {
		h.tb.Fatalf("%s: find interface %s: %v", h.Name, link, err)
	}
	return int(found.Attrs().Statistics.TxDropped)
}

// AddAddrs gives the host's link further addresses, of the family and network of those that it has.
func (h *Host) AddAddrs(addrs ...netip.Addr) {
	h.tb.Helper()
	if err := h.configure(Link, addrs...); err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
}

// Replace gives the host's link a new IPv6 address, and has connections begin there and no longer at the old one,
// which remains valid: as privacy addresses are replaced.
func (h *Host) Replace(old, replacement netip.Addr) error {
	if err := h.configure(Link, replacement); err != nil {
		return err
	}
	return h.deprecate(old)
}

// Dial connects from the host to an address of the form net.Dialer takes, without name resolution.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialFrom(ctx, netip.Addr{}, network, address)
}

// DialFrom is Dial with one of the host's own addresses as the source; the zero Addr leaves the choice to
// the kernel. The socket stays in the host's namespace, whoever uses it.
func (h *Host) DialFrom(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	// One address and no name: the socket is made on this very thread.
	var d net.Dialer
	switch {
	case !from.IsValid():
	case network[:3] == "udp":
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	default:
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	var conn net.Conn
	err := h.ns.Do(func() (err error) {
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	return conn, nil
}

// DialBy is Dial by a dialer of the caller's: for a client.Dialer on the host.
func (h *Host) DialBy(ctx context.Context, by *net.Dialer, network, address string) (conn net.Conn, err error) {
	err = h.ns.Do(func() error {
		conn, err = by.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on the host until the test ends.
func (h *Host) Listen(network, address string) net.Listener {
	h.tb.Helper()
	var config net.ListenConfig
	// Go's listeners speak Multipath TCP unless told otherwise, which no service behind a gateway does.
	config.SetMultipathTCP(false)
	var l net.Listener
	err := h.ns.Do(func() (err error) {
		l, err = config.Listen(h.tb.Context(), network, address)
		return err
	})
	if err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
	h.tb.Cleanup(func() { _ = l.Close() })
	return l
}

// ListenPacket opens a datagram socket on the host until the test ends.
func (h *Host) ListenPacket(network, address string) net.PacketConn {
	h.tb.Helper()
	var config net.ListenConfig
	var c net.PacketConn
	err := h.ns.Do(func() (err error) {
		c, err = config.ListenPacket(h.tb.Context(), network, address)
		return err
	})
	if err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
	h.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Sysctl sets a network setting of the host, named as in "ipv4/ip_local_port_range".
func (h *Host) Sysctl(name, value string) {
	h.tb.Helper()
	if err := h.ns.set(name, value); err != nil {
		h.tb.Fatalf("%s: set %s: %v", h.Name, name, err)
	}
}

// Setting reads a network setting of the host.
func (h *Host) Setting(name string) string {
	h.tb.Helper()
	value, err := h.ns.get(name)
	if err != nil {
		h.tb.Fatalf("%s: read %s: %v", h.Name, name, err)
	}
	return value
}
