//go:build linux

package lab

import (
	"net"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/netlab"
)

// A Host is one of the lab's machines. Its methods may be called by any
// goroutine.
type Host struct {
	*netlab.Host

	tb testing.TB
}

// Dropped returns how many packets that were to leave by an interface the host's
// kernel has dropped: of a TUN device, those that its reader was too slow for
// and those that its filter dropped.
func (h *Host) Dropped(link string) int {
	h.tb.Helper()
	found, err := h.Routes.LinkByName(link)
	if err != nil {
		h.tb.Fatalf("%s: find interface %s: %v", h.Name, link, err)
	}
	return int(found.Attrs().Statistics.TxDropped)
}

// AddAddrs gives the host's link further addresses, of the family and network of
// those that it has.
func (h *Host) AddAddrs(addrs ...netip.Addr) {
	h.tb.Helper()
	if err := h.Configure(Link, addrs...); err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
}

// Replace gives the host's link a new IPv6 address, from which connections
// begin instead of the old one, which remains valid: as privacy addresses are
// replaced.
func (h *Host) Replace(old, replacement netip.Addr) error {
	if err := h.Configure(Link, replacement); err != nil {
		return err
	}
	return h.Deprecate(old)
}

// Listen listens on the host until the test ends.
func (h *Host) Listen(network, address string) net.Listener {
	h.tb.Helper()
	l, err := h.Host.Listen(h.tb.Context(), network, address)
	if err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
	h.tb.Cleanup(func() { _ = l.Close() })
	return l
}

// ListenPacket opens a datagram socket on the host until the test ends.
func (h *Host) ListenPacket(network, address string) net.PacketConn {
	h.tb.Helper()
	c, err := h.Host.ListenPacket(h.tb.Context(), network, address)
	if err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
	h.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Sysctl sets a network setting of the host, named as in
// "ipv4/ip_local_port_range".
func (h *Host) Sysctl(name, value string) {
	h.tb.Helper()
	if err := h.Set(name, value); err != nil {
		h.tb.Fatalf("%s: set %s: %v", h.Name, name, err)
	}
}

// Setting reads a network setting of the host.
func (h *Host) Setting(name string) string {
	h.tb.Helper()
	value, err := h.Get(name)
	if err != nil {
		h.tb.Fatalf("%s: read %s: %v", h.Name, name, err)
	}
	return value
}
