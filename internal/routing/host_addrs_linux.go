package routing

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// UnavailableAddrs returns the addresses that the host does not have, or cannot
// use yet, a line each. This is not an error: their ports are hidden before the
// address is added, and clients are admitted afterwards. It takes no
// privileges.
func (h HostPorts) UnavailableAddrs() ([]string, error) {
	var absent []string
	for _, family := range h.families() {
		var have []netlink.Addr
		err := retryDump(func() (err error) {
			have, err = netlink.AddrList(nil, family)
			return err
		})
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list addresses, which keep changing: %w", err)
		}
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range h.addrs() {
			if familyOf(a) == family {
				if why := unavailableReason(a, have); why != "" {
					absent = append(absent, why)
				}
			}
		}
	}
	return absent, nil
}

// unavailableReason returns why packets cannot arrive at a, or "" if they can.
func unavailableReason(a netip.Addr, have []netlink.Addr) string {
	why := fmt.Sprintf("no interface of this host has the address %s", a)
	for i := range have {
		if at, ok := netip.AddrFromSlice(have[i].IP); !ok || at.Unmap() != a {
			continue
		}
		switch flags := have[i].Flags; {
		case flags&unix.IFA_F_DADFAILED != 0:
			why = fmt.Sprintf("the address %s is used by another host on its network, and the kernel does not use it", a)
		case flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0:
			why = fmt.Sprintf("the address %s is tentative: the kernel is still checking whether another host has it", a)
		default:
			return ""
		}
	}
	return why
}
