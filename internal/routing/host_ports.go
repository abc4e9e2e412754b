package routing

import (
	"net/netip"
	"slices"
)

// HostPorts are ports of the host's own addresses whose packets belong to the
// gateway. The addresses stay where they are, and so does everything else that
// the host has on them. What hides a port is
//
//   - rules that are asked before the kernel's table of local addresses, and lead
//     its packets to a table with a route to the device and a blackhole behind it;
//   - rules that drop what has no ports to go by, which the kernel would put
//     together and answer: fragments of TCP, and IPv6 packets of more extension
//     headers than rules look through;
//   - a Guard while the gateway runs: a socket on the port that hears nothing, so
//     that the host has nobody to answer with, whatever came past the rules.
//
// Rules and blackholes stay until Remove. The order of the calls is that of Routes.
type HostPorts struct {
	Ports []netip.AddrPort // their TCP and their UDP
	UDP   []netip.AddrPort // only their UDP
}

// addrs are the addresses, each once.
func (l HostPorts) addrs() []netip.Addr {
	var all []netip.Addr
	for _, p := range slices.Concat(l.Ports, l.UDP) {
		if !slices.Contains(all, p.Addr()) {
			all = append(all, p.Addr())
		}
	}
	return all
}
