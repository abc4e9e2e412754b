package routing

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// A ProtectedSet is the set of protected addresses of one gateway, or of all
// gateways of a host.
type ProtectedSet struct {
	Prefixes      []netip.Prefix   `json:"prefixes,omitempty"`       // of Routes
	Ports         []netip.AddrPort `json:"ports,omitempty"`          // of HostPorts, TCP and UDP
	UDP           []netip.AddrPort `json:"udp_ports,omitempty"`      // of HostPorts, UDP only
	UpstreamLinks []UpstreamLink   `json:"upstream_links,omitempty"` // of Routes
}

// Routes returns the Routes of the prefixes.
func (s ProtectedSet) Routes() Routes {
	return Routes{Prefixes: s.Prefixes, UpstreamLinks: s.UpstreamLinks}
}

// HostPorts returns the HostPorts of the ports.
func (s ProtectedSet) HostPorts() HostPorts { return HostPorts{Ports: s.Ports, UDP: s.UDP} }

// IsEmpty reports whether the set has neither prefixes nor ports.
func (s ProtectedSet) IsEmpty() bool { return len(s.Prefixes)+len(s.Ports)+len(s.UDP) == 0 }

// Subtract returns the elements of s that are not in other.
func (s ProtectedSet) Subtract(other ProtectedSet) ProtectedSet {
	return ProtectedSet{
		Prefixes: subtract(s.Prefixes, other.Prefixes),
		Ports:    subtract(s.Ports, other.Ports),
		UDP:      subtract(s.UDP, slices.Concat(other.UDP, other.Ports)),
		UpstreamLinks: slices.DeleteFunc(slices.Clone(s.UpstreamLinks), func(l UpstreamLink) bool {
			return slices.Contains(other.Prefixes, l.Prefix)
		}),
	}
}

func subtract[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(t T) bool { return slices.Contains(b, t) })
}

// Verify returns what is missing of the routes and rules that lead packets to
// the device called name, a line each. It takes no privileges.
func (s ProtectedSet) Verify(name string) ([]string, error) {
	missing, err := s.Routes().Verify(name)
	if err != nil {
		return nil, err
	}
	more, err := s.HostPorts().Verify(name)
	return append(missing, more...), err
}

// InstallBlackholes installs the blackholes and the rules, as many of them as
// possible. It needs neither the device nor the addresses.
func (s ProtectedSet) InstallBlackholes() error {
	return errors.Join(s.Routes().InstallBlackholes(), s.HostPorts().installRules())
}

// Remove removes all routes and rules of the set, and returns their number.
func (s ProtectedSet) Remove() (removed int, err error) {
	removed, err = s.HostPorts().Remove()
	n, rerr := s.Routes().Remove()
	return removed + n, errors.Join(err, rerr)
}

// blackholePrefix begins the lines of Verify about blackholes.
const blackholePrefix = "the blackhole of "

// AffectsTraffic reports whether packets do not reach the gateway because of a
// line of Verify. A missing blackhole does not affect them: it is for when
// there is no gateway.
func AffectsTraffic(missing string) bool { return !strings.HasPrefix(missing, blackholePrefix) }
