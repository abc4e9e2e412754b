//go:build linux

package lab

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device gives the host a TUN device with an address, whose packets are the file's: one whole IP packet in each
// read and write, without offloads. Both end with the test.
func (h *Host) Device(name string, at netip.Prefix) *os.File {
	h.tb.Helper()
	var file *os.File
	err := h.ns.Do(func() (err error) {
		file, err = openDevice(name)
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
	if err := h.configure(name, at.Addr()); err != nil {
		h.tb.Fatalf("%s: %v", h.Name, err)
	}
	return file
}

func openDevice(name string) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Route sends what the host has for a network through a neighbour.
func (h *Host) Route(to netip.Prefix, through netip.Addr) {
	h.tb.Helper()
	h.route(&netlink.Route{Dst: network(to), Gw: through.AsSlice()})
}

// Blackhole has the host drop in silence what it has for a network.
func (h *Host) Blackhole(to netip.Prefix) {
	h.tb.Helper()
	h.route(&netlink.Route{Dst: network(to), Type: unix.RTN_BLACKHOLE})
}

func (h *Host) route(r *netlink.Route) {
	h.tb.Helper()
	if err := h.routes.RouteAdd(r); err != nil {
		h.tb.Fatalf("%s: add the route %v: %v", h.Name, r, err)
	}
}

func network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
