//go:build linux

package lab

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/netlab"
)

// deviceQueue is how many packets may wait for the reader of a device: a TCP
// that bursts sends some thousand at once, and what becomes of them is the
// reader's business.
const deviceQueue = 8192

// Device gives the host a TUN device with an address, whose packets are the
// file's: one whole IP packet in each read and write, without offloads. Both
// end with the test.
func (h *Host) Device(name string, at netip.Prefix) *os.File {
	h.tb.Helper()
	var file *os.File
	err := h.Do(func() (err error) {
		file, err = openDevice(name, 0)
		return err
	})
	if err != nil {
		h.tb.Fatalf("%s: make the device %s: %v", h.Name, name, err)
	}

	h.tb.Cleanup(func() {
		if err := file.Close(); err != nil {
			h.tb.Errorf("%s: give up the device %s: %v", h.Name, name, err)
		}
	})
	if err := h.Configure(name, at.Addr()); err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}

	link, err := h.Routes.LinkByName(name)
	if err == nil {
		err = h.Routes.LinkSetTxQLen(link, deviceQueue)
	}
	if err != nil {
		h.tb.Fatalf("%s: lengthen the queue of %s: %v", h.Name, name, err)
	}
	return file
}

// PreparedDevice makes a TUN device on the host as one that is handed to a
// gateway: with virtio-net headers, up, and with the protected prefixes routed
// to it. It is gone when all holders have closed it.
func (h *Host) PreparedDevice(name string) *os.File {
	h.tb.Helper()
	var file *os.File
	err := h.Do(func() (err error) {
		file, err = openDevice(name, unix.IFF_VNET_HDR)
		return err
	})
	if err == nil {
		err = h.Configure(name)
	}
	if err != nil {
		h.tb.Fatalf("%s: prepare the device %s: %v", h.Name, name, err)
	}
	h.RouteProtected(name)
	return file
}

// RouteProtected routes the protected prefixes to an interface, as an operator
// does.
func (h *Host) RouteProtected(name string) {
	h.tb.Helper()
	for _, p := range []netip.Prefix{Protected4, Protected6} {
		h.MustRun("ip", "route", "add", p.String(), "dev", name)
	}
}

// openDevice makes a TUN device, with more flags than an ordinary one has.
func openDevice(name string, more uint16) (*os.File, error) {
	fd, err := unix.Open(netlab.TUNDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | more)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Route sends what the host has for a network to a device, instead of where it
// went before. With a name in control the host's own connections there use that
// congestion control, whatever is usual on the machine.
func (h *Host) Route(to netip.Prefix, device, control string) {
	h.tb.Helper()
	link, err := h.Routes.LinkByName(device)
	if err != nil {
		h.tb.Fatalf("%s: find interface %s: %v", h.Name, device, err)
	}
	h.route(&netlink.Route{Dst: network(to), LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Congctl: control})
}

// Congestion has the hosts use a congestion control among each other (over
// IPv4), whatever is usual on the machine. It is the routes', because a
// namespace may not choose one for itself that the machine does not allow to
// all namespaces.
func (l *Lab) Congestion(control string) {
	l.tb.Helper()
	for _, h := range []*Host{l.Client, l.Attacker, l.Upstream} {
		h.route(&netlink.Route{Gw: h.Router4.AsSlice(), Congctl: control})
		l.Gateway.Route(netip.PrefixFrom(h.Addr4, h.Addr4.BitLen()), h.Name+"0", control)
	}
}

// Blackhole has the host drop in silence what it has for a network.
func (h *Host) Blackhole(to netip.Prefix) {
	h.tb.Helper()
	h.route(&netlink.Route{Dst: network(to), Type: unix.RTN_BLACKHOLE})
}

func (h *Host) route(r *netlink.Route) {
	h.tb.Helper()
	if err := h.Routes.RouteReplace(r); err != nil {
		h.tb.Fatalf("%s: set the route %v: %v", h.Name, r, err)
	}
}

func network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
