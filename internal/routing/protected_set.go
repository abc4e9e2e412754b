package routing

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// A ProtectedSet is all that leads the packets of the protected addresses to the gateway and
// keeps them silent without it: Routes and Local of one gateway, or of all of a host.
type ProtectedSet struct {
	Prefixes      []netip.Prefix   `json:"prefixes,omitempty"`       // of Routes
	Ports         []netip.AddrPort `json:"ports,omitempty"`          // of Local, as UDP
	UDP           []netip.AddrPort `json:"udp_ports,omitempty"`      //
	UpstreamLinks []UpstreamLink   `json:"upstream_links,omitempty"` // of Routes
}

// Routes are those of the prefixes.
func (h ProtectedSet) Routes() Routes {
	return Routes{Prefixes: h.Prefixes, UpstreamLinks: h.UpstreamLinks}
}

// HostPorts is what hides the ports.
func (h ProtectedSet) HostPorts() HostPorts { return HostPorts{Ports: h.Ports, UDP: h.UDP} }

// IsEmpty reports whether there is nothing to hold.
func (h ProtectedSet) IsEmpty() bool { return len(h.Prefixes)+len(h.Ports)+len(h.UDP) == 0 }

// Subtract returns what of h is not in other.
func (h ProtectedSet) Subtract(other ProtectedSet) ProtectedSet {
	return ProtectedSet{
		Prefixes:      subtract(h.Prefixes, other.Prefixes),
		Ports:         subtract(h.Ports, other.Ports),
		UDP:           subtract(h.UDP, slices.Concat(other.UDP, other.Ports)),
		UpstreamLinks: slices.DeleteFunc(slices.Clone(h.UpstreamLinks), func(in UpstreamLink) bool { return slices.Contains(other.Prefixes, in.Prefix) }),
	}
}

func subtract[T comparable](all, not []T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return slices.Contains(not, t) })
}

// Verify says, in a line each, what is missing of what leads packets to the device
// called name. Asking takes no privilege.
func (h ProtectedSet) Verify(name string) ([]string, error) {
	missing, err := h.Routes().Verify(name)
	if err != nil {
		return nil, err
	}
	more, err := h.HostPorts().Verify(name)
	return append(missing, more...), err
}

// InstallBlackholes makes the blackholes and the rules, as many of them as can be made. It needs
// neither the device nor the addresses.
func (h ProtectedSet) InstallBlackholes() error {
	return errors.Join(h.Routes().InstallBlackholes(), h.HostPorts().installRules())
}

// Remove takes all of it away, and reports how many routes and rules there were.
func (h ProtectedSet) Remove() (removed int, err error) {
	removed, err = h.HostPorts().Remove()
	n, rerr := h.Routes().Remove()
	return removed + n, errors.Join(err, rerr)
}

// blackholePrefix begins what Missing says of a blackhole.
const blackholePrefix = "the blackhole of "

// AffectsTraffic reports whether what Missing says of keeps packets from the gateway. A
// blackhole does not: it is for when the gateway is gone.
func AffectsTraffic(missing string) bool { return !strings.HasPrefix(missing, blackholePrefix) }
