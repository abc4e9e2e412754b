package packet

import "net/netip"

// Addr is an IP address in one form for both families: 16 bytes, with an IPv4
// address as ::ffff:a.b.c.d. It has no pointers and no padding, so that a map
// keyed by it is fast to search and not scanned by the garbage collector.
type Addr [16]byte

// AddrFrom converts a, without its zone.
func AddrFrom(a netip.Addr) Addr { return a.As16() }

// Netip returns the address as a netip.Addr. IPv4 addresses are unmapped.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return [12]byte(a[:12]) == v4Prefix }

// Subnet returns the address that stands for the network of one subscriber: the
// /64 of an IPv6 address, within which a single host can choose its addresses,
// and an IPv4 address itself.
func (a Addr) Subnet() Addr {
	if !a.Is4() {
		clear(a[8:])
	}
	return a
}

// SubnetPrefix returns the network that Subnet stands for: a /32, or an IPv6
// /64.
func (a Addr) SubnetPrefix() netip.Prefix {
	const ipv6Bits = 64
	addr := a.Subnet().Netip()
	if addr.Is4() {
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	return netip.PrefixFrom(addr, ipv6Bits)
}

// Network returns the first address of the IPv4 /24 or IPv6 /64 that a is in.
func (a Addr) Network() Addr {
	if a.Is4() {
		a[15] = 0
		return a
	}
	return a.Subnet()
}

// v4Prefix is the first 12 bytes of an IPv4 address (RFC 4291, 2.5.5.2).
var v4Prefix = [12]byte{10: 0xff, 11: 0xff}

func addr4(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}
