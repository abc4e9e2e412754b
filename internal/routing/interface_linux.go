package routing

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Settings of an interface, by their numbers in linux/ip.h (IPV4_DEVCONF_*).
// IPv6 has no reverse-path filter and needs none of them.
const (
	devconfForwarding  = 1
	devconfRPFilter    = 8
	devconfAcceptLocal = 23
	// rpFilterLoose accepts packets whose source is reachable by any interface.
	rpFilterLoose = 2
	// inetConf is IFLA_INET_CONF of linux/if_link.h, the array of the settings.
	inetConf = 1
)

// Leftovers reports whether the interface called name, which Remove does not
// remove, exists, and whether it is persistent: one that the operator has
// created.
func Leftovers(name string) (exists, persistent bool) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return false, false
	}
	device, ok := link.(*netlink.Tuntap)
	return true, ok && !device.NonPersist
}

// RouteInterface returns the name of the interface by which the kernel would
// send packets to a, or "" if there is no route. A route to the gateway's own
// device must be refused for an upstream.
func RouteInterface(a netip.Addr) string {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return ""
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}

// configureInterface makes the kernel forward packets from the gateway's
// interface even if their source is an address of the host itself (tun.local),
// or is reached by another interface (a prefix that is the host's own subnet).
// It uses netlink, because a service manager may have made /proc/sys read-only.
func configureInterface(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	families := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	settings := families.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConf, nil)
	settings.AddRtAttr(devconfAcceptLocal, nl.Uint32Attr(1))
	settings.AddRtAttr(devconfRPFilter, nl.Uint32Attr(rpFilterLoose))
	settings.AddRtAttr(devconfForwarding, nl.Uint32Attr(1))
	req.AddData(families)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("let answers from %s out: %w", name, withRemedy(err))
	}
	return nil
}
