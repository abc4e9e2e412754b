package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// ResolveAll looks address, host:port, up with Net's resolver, and returns what
// fits network (tcp, tcp4 or tcp6) in the order in which DialContext tries it:
// IPv6 and IPv4 by turns, IPv6 first, each in the resolver's order (RFC 8305,
// section 4). A literal address is the one that it is.
func (d *Dialer) ResolveAll(ctx context.Context, network, address string) ([]netip.AddrPort, error) {
	resolver := d.Net.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	var family string
	switch network {
	case "tcp":
		family = "ip"
	case "tcp4":
		family = "ip4"
	case "tcp6":
		family = "ip6"
	default:
		return nil, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := resolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if literal, bad := netip.ParseAddr(host); bad != nil {
		addrs, err = resolver.LookupNetIP(ctx, family, host)
	} else if literal = literal.Unmap(); family == "ip" || family == "ip4" == literal.Is4() {
		addrs = []netip.Addr{literal} // with its zone, which LookupNetIP drops
	}
	if err != nil {
		return nil, err
	}
	var targets []netip.AddrPort
	for _, a := range addrs {
		t := netip.AddrPortFrom(a.Unmap(), uint16(port)) // LookupPort keeps to 16 bits
		if !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil, &net.DNSError{Err: "no address of the kind asked for", Name: host, IsNotFound: true}
	}
	return interleave(targets), nil
}

// Resolve is the first address of ResolveAll by the system's resolver.
func Resolve(ctx context.Context, network, address string) (netip.AddrPort, error) {
	targets, err := new(Dialer).ResolveAll(ctx, network, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return targets[0], nil
}

// interleave puts the families by turns, IPv6 first.
func interleave(targets []netip.AddrPort) []netip.AddrPort {
	var six, four, all []netip.AddrPort
	for _, t := range targets {
		if t.Addr().Is4() {
			four = append(four, t)
		} else {
			six = append(six, t)
		}
	}
	for len(six) > 0 && len(four) > 0 {
		all = append(all, six[0], four[0])
		six, four = six[1:], four[1:]
	}
	return append(append(all, six...), four...)
}
