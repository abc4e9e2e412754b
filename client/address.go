package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// ResolveAll resolves address, host:port, with Net's resolver, and returns the
// addresses that fit network (tcp, tcp4 or tcp6) in the order in which
// DialContext tries them: IPv6 and IPv4 alternate, IPv6 first, each family in
// the resolver's order (RFC 8305, section 4). A literal address resolves to
// itself.
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
		t := netip.AddrPortFrom(a.Unmap(), uint16(port)) // LookupPort returns at most 65535
		if !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil, &net.DNSError{Err: "no address of the requested family", Name: host, IsNotFound: true}
	}
	return interleave(targets), nil
}

// Resolve returns the first address of ResolveAll with the system's resolver.
func Resolve(ctx context.Context, network, address string) (netip.AddrPort, error) {
	targets, err := new(Dialer).ResolveAll(ctx, network, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return targets[0], nil
}

// interleave alternates the address families, IPv6 first.
func interleave(targets []netip.AddrPort) []netip.AddrPort {
	var v6, v4, all []netip.AddrPort
	for _, t := range targets {
		if t.Addr().Is4() {
			v4 = append(v4, t)
		} else {
			v6 = append(v6, t)
		}
	}
	for len(v6) > 0 && len(v4) > 0 {
		all = append(all, v6[0], v4[0])
		v6, v4 = v6[1:], v4[1:]
	}
	return append(append(all, v6...), v4...)
}
