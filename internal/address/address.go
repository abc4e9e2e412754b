// Package address parses addresses with ports as people write them. Its errors
// say what to write instead.
package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Join returns host:port, with brackets around an IPv6 address.
func Join(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// ParsePort parses a port, 1 to 65535.
func ParsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%q is not a port; write a number from 1 to 65535", text)
	}
	return uint16(port), nil
}

// Split splits host:port, where host may be in brackets. example is a port for
// error messages.
func Split(text string, example uint16) (host string, port uint16, err error) {
	colon := strings.LastIndexByte(text, ':')
	switch {
	case colon < 0:
		return "", 0, fmt.Errorf("a port is missing; write it as %s:%d", text, example)
	case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
		return "", 0, fmt.Errorf("a port is missing; write it as \"%s:%d\"", text, example)
	case isAddress(text):
		// fd77::1:22 is a valid address, so that the intended port is ambiguous.
		return "", 0, fmt.Errorf("an IPv6 address needs brackets and a port; write it as \"[address]:%d\"", example)
	}
	host = text[:colon]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.ContainsAny(host, ":[]") {
		return "", 0, fmt.Errorf("an IPv6 address needs brackets; write it as \"[%s]:%s\"", strings.Trim(host, "[]"), text[colon+1:])
	}
	if port, err = ParsePort(text[colon+1:]); err != nil {
		return "", 0, err
	}
	return host, port, nil
}

func isAddress(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(text)
	return err == nil
}

const mappedBits = 96 // the length of ::ffff:0:0/96, the prefix of IPv4-mapped addresses

// ParsePrefix parses a prefix without host bits. IPv4-mapped prefixes are
// returned as IPv4.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.Prefix{}, fmt.Errorf("a prefix length is missing; write %s/%d for this one address", text, addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, errors.New("is not a prefix; write one as 10.77.0.0/24 or fd77::/64")
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < mappedBits {
			return netip.Prefix{}, errors.New("the prefix contains more than the IPv4-mapped addresses; write it as an IPv4 prefix")
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-mappedBits)
	}
	if prefix.Bits() == 0 {
		return netip.Prefix{}, errors.New("the prefix contains every address, including the upstreams; name the protected ones")
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, fmt.Errorf("bits beyond the prefix length are set; write %s for the network or %s/%d for the address",
			masked, prefix.Addr(), prefix.Addr().BitLen())
	}
	_, err = Routable(prefix.Addr())
	return prefix, err
}

// Routable returns an address that can be routed to a device, unmapped.
func Routable(addr netip.Addr) (netip.Addr, error) {
	if addr.Zone() != "" {
		return addr, errors.New("an address with a zone cannot be routed; remove % and the zone")
	}
	addr = addr.Unmap()
	switch {
	case addr.IsUnspecified():
		return addr, fmt.Errorf("%s cannot be routed; name the address that clients dial", addr)
	case addr.IsLoopback(), addr.IsMulticast():
		return addr, fmt.Errorf("%s cannot be routed to a device; use an address of a network of its own", addr)
	}
	return addr, nil
}

// ParseDial parses an address to dial, address:port or name:port. host is
// returned without brackets, and an address in canonical form. example is a
// port for error messages.
func ParseDial(text string, example uint16) (host string, port uint16, err error) {
	host, port, err = Split(text, example)
	if err != nil {
		return "", 0, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr = addr.Unmap(); addr.IsUnspecified() || addr.IsMulticast() {
			return "", 0, fmt.Errorf("%s cannot be dialled; write 127.0.0.1:%d for this host", addr, port)
		}
		return addr.String(), port, nil
	}
	if !IsHostname(host) {
		return "", 0, fmt.Errorf("%q is neither an address nor a host name; write 127.0.0.1:%d for this host", host, port)
	}
	return host, port, nil
}

const maxHostname = 253 // bytes, as text (RFC 1035)

// IsHostname reports whether name can be a host name. It accepts what resolvers
// accept, but rejects names whose last label consists of digits, which are
// mistyped addresses.
func IsHostname(name string) bool {
	if name == "" || len(name) > maxHostname {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !IsNameByte(c) && c != '.' {
			return false
		}
	}
	last := strings.TrimSuffix(name, ".")
	last = last[strings.LastIndexByte(last, '.')+1:]
	_, err := strconv.Atoi(last)
	return err != nil && last != "" && !strings.Contains(name, "..") && name[0] != '.'
}

// IsNameByte reports whether c is a letter, a digit, - or _.
func IsNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// ParseSource parses a source of packets, an address or a network. An address
// is returned as a network of one address, and IPv4-mapped addresses as IPv4.
func ParseSource(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a network", text)
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%q is an IPv4-mapped network; write it as IPv4", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q has bits set beyond its length; write %s for the network, or %s for the address", text, p.Masked(), p.Addr())
	}
	return p, nil
}
