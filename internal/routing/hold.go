package routing

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// A Hold is all that leads the packets of the protected addresses to the gateway and
// keeps them silent without it: Routes and Local of one gateway, or of all of a host.
type Hold struct {
	Prefixes []netip.Prefix   `json:"prefixes,omitempty"`  // of Routes
	Ports    []netip.AddrPort `json:"ports,omitempty"`     // of Local, as UDP
	UDP      []netip.AddrPort `json:"udp_ports,omitempty"` //
	Inside   []Inside         `json:"inside,omitempty"`    // of Routes
}

// Routes are those of the prefixes.
func (h Hold) Routes() Routes { return Routes{Prefixes: h.Prefixes, Inside: h.Inside} }

// Local is what hides the ports.
func (h Hold) Local() Local { return Local{Ports: h.Ports, UDP: h.UDP} }

// IsEmpty reports whether there is nothing to hold.
func (h Hold) IsEmpty() bool { return len(h.Prefixes)+len(h.Ports)+len(h.UDP) == 0 }

// Without returns what of h is not in other.
func (h Hold) Without(other Hold) Hold {
	return Hold{
		Prefixes: without(h.Prefixes, other.Prefixes),
		Ports:    without(h.Ports, other.Ports),
		UDP:      without(h.UDP, slices.Concat(other.UDP, other.Ports)),
		Inside:   slices.DeleteFunc(slices.Clone(h.Inside), func(in Inside) bool { return slices.Contains(other.Prefixes, in.Prefix) }),
	}
}

func without[T comparable](all, not []T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return slices.Contains(not, t) })
}

// Missing says, in a line each, what is missing of what leads packets to the device
// called name. Asking takes no privilege.
func (h Hold) Missing(name string) ([]string, error) {
	missing, err := h.Routes().Missing(name)
	if err != nil {
		return nil, err
	}
	more, err := h.Local().Missing(name)
	return append(missing, more...), err
}

// Silence makes the blackholes and the rules, as many of them as can be made. It needs
// neither the device nor the addresses.
func (h Hold) Silence() error {
	return errors.Join(h.Routes().Blackhole(), h.Local().silence())
}

// Remove takes all of it away, and reports how many routes and rules there were.
func (h Hold) Remove() (removed int, err error) {
	removed, err = h.Local().Remove()
	n, rerr := h.Routes().Remove()
	return removed + n, errors.Join(err, rerr)
}

// blackholeOf begins what Missing says of a blackhole.
const blackholeOf = "the blackhole of "

// CutsOff reports whether what Missing says of keeps packets from the gateway. A
// blackhole does not: it is for when the gateway is gone.
func CutsOff(missing string) bool { return !strings.HasPrefix(missing, blackholeOf) }
