package policy

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/packet"
)

func TestSubnetContainsWhatItsPrefixContains(t *testing.T) {
	var addrs []netip.Addr
	for _, s := range []string{
		"0.0.0.0", "10.0.0.0", "10.0.0.1", "10.77.0.255", "10.77.1.0", "127.255.255.255", "128.0.0.0", "255.255.255.255",
		"::", "::1", "::10.0.0.1", "::fffe:10.0.0.1", "::1:ffff:10.0.0.1", "0:0:0:1::", "fd77::", "fd77::1",
		"fd77::8000:0:0:0", "fd77:0:0:1::", "7fff::", "8000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	for _, of := range append(addrs, netip.MustParseAddr("::ffff:10.0.0.1")) {
		for bits := range of.BitLen() + 1 {
			p := netip.PrefixFrom(of, bits)
			n := newSubnet(p)
			for _, a := range addrs {
				b := packet.AddrFrom(a)
				if got := n.contains(&b); got != p.Contains(a) {
					t.Errorf("%v contains %v: %v", p, a, got)
				}
			}
		}
	}
}
