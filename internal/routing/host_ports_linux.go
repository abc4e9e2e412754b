package routing

import (
	"errors"
	"net/netip"
)

// Install reserves the ports and installs the blackholes and rules. Once it
// returns the host does not answer for the ports, even after the
// PortReservation is closed. Rules of an earlier run are kept.
func (h HostPorts) Install() (*PortReservation, error) {
	if len(h.addrs()) == 0 {
		return nil, nil
	}
	guard, err := h.reservePorts()
	if err != nil {
		return nil, err
	}
	if err := h.installRules(); err != nil {
		return nil, errors.Join(err, guard.Close())
	}
	return guard, nil
}

// Attach routes the ports to the device called name, which Routes.Attach has
// brought up, and allows the host's own addresses as the source of packets from
// it, which are the gateway's answers. It changes no other device.
func (h HostPorts) Attach(name string) error {
	if len(h.addrs()) == 0 {
		return nil
	}
	return h.routes().Attach(name)
}

// Remove gives the ports back to the host. It returns the number of routes and
// rules, without the kernel's rule of the local table, which is moved back to
// where it was.
func (h HostPorts) Remove() (removed int, err error) {
	if len(h.addrs()) == 0 {
		return 0, nil
	}
	removed, err = h.removeRules()
	if err != nil {
		return removed, err
	}
	n, err := h.routes().Remove()
	return removed + n, err
}

// routes returns the routes of localTable.
func (h HostPorts) routes() Routes {
	r := Routes{table: localTable}
	for _, a := range h.addrs() {
		r.Prefixes = append(r.Prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return r
}
