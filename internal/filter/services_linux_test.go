package filter

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A prefix accepts all that the prefixes around it accept, in any order.
func TestEndpointsInherit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		got, want := make(map[endpoint]programAccepts), make(map[endpoint]programAccepts)
		for range 40 {
			addr, bits := fmt.Sprintf("10.0.%d.%d", random.IntN(2), random.IntN(256)), 16+random.IntN(17)
			if random.IntN(2) == 0 {
				addr, bits = fmt.Sprintf("fd77::%x", random.IntN(256)), 112+random.IntN(17)
			}
			p := netip.PrefixFrom(netip.MustParseAddr(addr), bits).Masked()
			got[endpoint{uint8(random.IntN(2)), uint16(random.IntN(2)), p}] |= 1 << random.IntN(8)
		}
		for inner := range got {
			for outer, accepts := range got {
				if outer.contains(inner) {
					want[inner] |= accepts
				}
			}
		}
		inherit(got)
		if !maps.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}
