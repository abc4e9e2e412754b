package profile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/knockgw/knockgw/internal/address"
)

// ErrNotFound says that no profile knows the target; the error that wraps it lists what there is.
var ErrNotFound = errors.New("not in the profile")

// ErrAmbiguous says that several profiles know the target; the error that wraps it lists the choices.
var ErrAmbiguous = errors.New("in several profiles")

// Endpoint is a way in: a service of a profile, and the address at which it was asked for.
type Endpoint struct {
	Profile *Profile
	Service *Service
	Address string // host:port, what to dial
}

// String is PROFILE/SERVICE.
func (d *Endpoint) String() string { return d.Profile.Name + "/" + d.Service.Name }

// Find is the door to a target: the name of a service, with or without a port that says nothing, or the
// host:port at which a service is. Of several services with a prefix that the address is in, the one with
// the narrowest is meant. A target that is none of these is ErrNotFound.
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
		if door := p.byAddr(name, port); door != nil {
			return door, nil
		}
	}
	return nil, fmt.Errorf("%q is %w %s; there is %s", target, ErrNotFound, p.Name, p.list())
}

// FindDotted is the door to SERVICE.PROFILE, with or without a port, in one of
// the profiles, or nil. It is the spelling for programs that take a host's name,
// and a name may have dots in it.
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
		if door, err := p.Find(service); err == nil {
			return door
		}
	}
	return nil
}

// byName is the door to a service that was asked for by its name.
func (p *Profile) byName(s *Service) (*Endpoint, error) {
	if prefix, port, ok := s.prefix(); ok {
		return nil, fmt.Errorf("%s is any address in %s; name one, as in %s",
			s.Name, prefix, net.JoinHostPort(prefix.Addr().Next().String(), port))
	}
	return &Endpoint{Profile: p, Service: s, Address: s.Address}, nil
}

// byAddr is the door to the service at an address, or nil.
func (p *Profile) byAddr(host, port string) *Endpoint {
	addr, err := netip.ParseAddr(host)
	if err == nil {
		addr = addr.Unmap().WithZone("")
		host = addr.String()
	}
	narrowest, bits := -1, -1
	for i := range p.Services {
		s := &p.Services[i]
		if prefix, at, ok := s.prefix(); ok {
			if at == port && prefix.Contains(addr) && prefix.Bits() > bits {
				narrowest, bits = i, prefix.Bits()
			}
			continue
		}
		if h, at, err := net.SplitHostPort(s.Address); err == nil && at == port && sameHost(h, host) {
			return &Endpoint{Profile: p, Service: s, Address: s.Address}
		}
	}
	if narrowest < 0 {
		return nil
	}
	return &Endpoint{Profile: p, Service: &p.Services[narrowest], Address: net.JoinHostPort(host, port)}
}

// prefix is that of a service which is more than one address, and its port.
func (s *Service) prefix() (prefix netip.Prefix, port string, ok bool) {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || !strings.Contains(host, "/") {
		return netip.Prefix{}, "", false
	}
	prefix, err = netip.ParsePrefix(host)
	return prefix, port, err == nil
}

// sameHost compares names without case and the dot at their end, and addresses by what they mean.
func sameHost(a, b string) bool {
	if addr, err := netip.ParseAddr(a); err == nil {
		a = addr.Unmap().String()
	}
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// list lists the services, for somebody who asked for another.
func (p *Profile) list() string {
	names := make([]string, len(p.Services))
	for i := range p.Services {
		names[i] = p.Services[i].Name + " (" + p.Services[i].Address + ")"
	}
	return strings.Join(names, ", ")
}

// port is that of the address, 0 if it has none.
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
