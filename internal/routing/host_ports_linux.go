package routing

import (
	"errors"
	"net/netip"
)

// Install holds the ports and makes the blackholes and rules. From its return on the
// host does not answer for the ports, and whoever closes the Guard does not
// change that. Those of an earlier run are kept.
func (l HostPorts) Install() (*PortReservation, error) {
	if len(l.addrs()) == 0 {
		return nil, nil
	}
	guard, err := l.reservePorts()
	if err != nil {
		return nil, err
	}
	if err := l.installRules(); err != nil {
		return nil, errors.Join(err, guard.Close())
	}
	return guard, nil
}

// Attach routes the ports to the device called name, which Routes.Attach has
// brought up, and lets the host's own addresses be the source of what comes from
// it: the gateway's answers. No other device is touched.
func (l HostPorts) Attach(name string) error {
	if len(l.addrs()) == 0 {
		return nil
	}
	return l.routes().Attach(name)
}

// Remove gives the ports back to the host. It reports how many routes and rules
// there were; the rule of the host's own addresses, which is where it was before, does not count.
func (l HostPorts) Remove() (removed int, err error) {
	if len(l.addrs()) == 0 {
		return 0, nil
	}
	removed, err = l.removeRules()
	if err != nil {
		return removed, err
	}
	n, err := l.routes().Remove()
	return removed + n, err
}

// routes are those behind the rules.
func (l HostPorts) routes() Routes {
	r := Routes{table: localTable}
	for _, a := range l.addrs() {
		r.Prefixes = append(r.Prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return r
}
