package profile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/knockgw/knockgw/internal/address"
)

// ErrNotFound reports that no profile has the target. The error that wraps it
// lists the known targets.
var ErrNotFound = errors.New("not in the profile")

// ErrAmbiguous reports that several profiles have the target. The error that
// wraps it lists the choices.
var ErrAmbiguous = errors.New("in several profiles")

// Endpoint is a service of a profile, and the address at which to reach it.
type Endpoint struct {
	Profile *Profile
	Service *Service
	Address string // host:port to dial
}

// String returns PROFILE/SERVICE.
func (e *Endpoint) String() string { return e.Profile.Name + "/" + e.Service.Name }

// Find returns the endpoint of a target: the name of a service, with an
// optional port that is ignored, or the host:port of a service. If the address
// is in the prefixes of several services, the longest prefix is used. The error
// of any other target wraps [ErrNotFound].
func (p *Profile) Find(target string) (*Endpoint, error) {
	name, port, err := net.SplitHostPort(target)
	if err != nil {
		name = target
	}
	for i := range p.Services {
		if s := &p.Services[i]; strings.EqualFold(s.Name, name) {
			return p.byName(s)
		}
	}
	if err == nil {
		if endpoint := p.byAddr(name, port); endpoint != nil {
			return endpoint, nil
		}
	}
	return nil, fmt.Errorf("%q is %w %s; known: %s", target, ErrNotFound, p.Name, p.list())
}

// FindDotted returns the endpoint of SERVICE.PROFILE, with an optional port, in
// one of the profiles, or nil. This form is for programs that expect a host
// name. Names may contain dots.
func FindDotted(all []*Profile, target string) *Endpoint {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	for _, p := range all {
		service, ok := strings.CutSuffix(strings.ToLower(host), "."+strings.ToLower(p.Name))
		if !ok || service == "" {
			continue
		}
		if endpoint, err := p.Find(service); err == nil {
			return endpoint
		}
	}
	return nil
}

// byName returns the endpoint of a service that was requested by name.
func (p *Profile) byName(s *Service) (*Endpoint, error) {
	if prefix, port, ok := s.prefix(); ok {
		return nil, fmt.Errorf("%s is at every address in %s; name one, such as %s",
			s.Name, prefix, net.JoinHostPort(prefix.Addr().Next().String(), port))
	}
	return &Endpoint{Profile: p, Service: s, Address: s.Address}, nil
}

// byAddr returns the endpoint of the service at an address, or nil.
func (p *Profile) byAddr(host, port string) *Endpoint {
	addr, err := netip.ParseAddr(host)
	if err == nil {
		addr = addr.Unmap().WithZone("")
		host = addr.String()
	}
	longest, bits := -1, -1
	for i := range p.Services {
		s := &p.Services[i]
		if prefix, at, ok := s.prefix(); ok {
			if at == port && prefix.Contains(addr) && prefix.Bits() > bits {
				longest, bits = i, prefix.Bits()
			}
			continue
		}
		if h, at, err := net.SplitHostPort(s.Address); err == nil && at == port && sameHost(h, host) {
			return &Endpoint{Profile: p, Service: s, Address: s.Address}
		}
	}
	if longest < 0 {
		return nil
	}
	return &Endpoint{Profile: p, Service: &p.Services[longest], Address: net.JoinHostPort(host, port)}
}

// prefix returns the prefix of a service that has one, and its port.
func (s *Service) prefix() (prefix netip.Prefix, port string, ok bool) {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || !strings.Contains(host, "/") {
		return netip.Prefix{}, "", false
	}
	prefix, err = netip.ParsePrefix(host)
	return prefix, port, err == nil
}

// sameHost compares names without regard to case and a trailing dot, and
// addresses by value.
func sameHost(a, b string) bool {
	if addr, err := netip.ParseAddr(a); err == nil {
		a = addr.Unmap().String()
	}
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// list returns the names and addresses of the services.
func (p *Profile) list() string {
	names := make([]string, len(p.Services))
	for i := range p.Services {
		names[i] = p.Services[i].Name + " (" + p.Services[i].Address + ")"
	}
	return strings.Join(names, ", ")
}

// port returns the port of the address, or 0 if it has none.
func (s *Service) port() uint16 {
	_, text, err := net.SplitHostPort(s.Address)
	if err != nil {
		return 0
	}
	port, err := address.ParsePort(text)
	if err != nil {
		return 0
	}
	return port
}
