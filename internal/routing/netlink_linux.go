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

// withRemedy adds the remedy to the error of a missing privilege.
func withRemedy(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errors.Is(errno, fs.ErrPermission) {
		return fmt.Errorf("%w; run as root or with CAP_NET_ADMIN", err)
	}
	return err
}

// maxDumpAttempts is the number of attempts at a dump.
const maxDumpAttempts = 3

// retryDump repeats a netlink dump that a concurrent change interrupted
// (NLM_F_DUMP_INTR): it may omit objects that exist. If all attempts are
// interrupted it returns netlink.ErrDumpInterrupted.
func retryDump(list func() error) (err error) {
	for range maxDumpAttempts {
		if err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}
