package netlab

import "net/netip"

// Protected4 returns the IPv4 prefix that knockgw routes to its device.
func Protected4() netip.Prefix { return netip.MustParsePrefix("10.77.0.0/24") }

// Protected6 returns the IPv6 prefix that knockgw routes to its device.
func Protected6() netip.Prefix { return netip.MustParsePrefix("fd77::/64") }

// IsProtected reports whether an address is in one of the protected prefixes.
func IsProtected(a netip.Addr) bool { return Protected4().Contains(a) || Protected6().Contains(a) }
