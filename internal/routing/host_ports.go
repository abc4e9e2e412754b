package routing

import (
	"net/netip"
	"slices"
)

// HostPorts are ports of the host's own addresses whose packets are led to the
// gateway. The addresses stay on their interfaces, and so do the other ports. A
// port is hidden by
//
//   - rules before the kernel's rule of the local table, which route its packets by a
//     table with a route to the device and a blackhole behind it;
//   - rules that drop packets without ports, which the kernel would otherwise
//     reassemble and answer: fragments of TCP, and IPv6 packets with more extension
//     headers than rules parse;
//   - a PortReservation while the gateway is running: a socket on the port that
//     receives nothing, so that no other socket of the host can answer, even if a
//     packet passes the rules.
//
// Rules and blackholes stay until Remove. The order of the calls is that of
// Routes.
type HostPorts struct {
	Ports []netip.AddrPort // TCP and UDP
	UDP   []netip.AddrPort // UDP only
}

// addrs returns the addresses, each once.
func (h HostPorts) addrs() []netip.Addr {
	var all []netip.Addr
	for _, p := range slices.Concat(h.Ports, h.UDP) {
		if !slices.Contains(all, p.Addr()) {
			all = append(all, p.Addr())
		}
	}
	return all
}
