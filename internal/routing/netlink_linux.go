package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func familyFlag(family int) string {
	if family == netlink.FAMILY_V4 {
		return "-4"
	}
	return "-6"
}

// withRemedy makes EPERM and EACCES from netlink readable as fs.ErrPermission with the remedy.
func withRemedy(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errors.Is(errno, fs.ErrPermission) {
		return fmt.Errorf("%w; run as root or with CAP_NET_ADMIN", err)
	}
	return err
}

// maxDumpAttempts is how often it is tried to list what changes meanwhile.
const maxDumpAttempts = 3

// retryDump lists anew what has changed while it was listed: such a list may lack what was there all the time. Where it
// does not stop changing the error is netlink.ErrDumpInterrupted.
func retryDump(list func() error) (err error) {
	for range maxDumpAttempts {
		if err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}
