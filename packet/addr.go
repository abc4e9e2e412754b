package packet

import "net/netip"

// Addr is an IP address in one form for both families: 16 bytes, an IPv4
// address as ::ffff:a.b.c.d. It has no pointers and no padding, so that a map
// keyed by it is cheap to look up and invisible to the garbage collector.
type Addr [16]byte

// AddrFrom converts a (without its zone).
func AddrFrom(a netip.Addr) Addr { return a.As16() }

// Netip returns the address in the standard library's form, an IPv4 address unmapped.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 tells whether a is an IPv4 address.
func (a Addr) Is4() bool { return [12]byte(a[:12]) == v4Prefix }

// v4Prefix is what an IPv4 address looks like in its first 12 bytes (RFC 4291, 2.5.5.2).
var v4Prefix = [12]byte{10: 0xff, 11: 0xff}

func addr4(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}
