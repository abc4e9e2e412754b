package knock

import (
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

func TestLimiterBudgetFillsAgain(t *testing.T) {
	l := newLimiter()
	now := time.Hour
	used := func() int {
		all := l.Usage(now)
		return all[slices.IndexFunc(all, func(u Usage) bool { return u.Resource == "knock_rate_unknown" })].Used
	}
	if n := used(); n != 0 {
		t.Errorf("%d of an unused bucket", n)
	}
	const keys = 1000
	if !l.allowUnknown(packet.Addr{}, keys, now) || used() != keys {
		t.Errorf("%d are used", used())
	}
	now += time.Second
	if n := used(); n != 0 {
		t.Errorf("%d are used a second later", n)
	}
}

func TestLimiterLeavesOtherSubnetsTheirShare(t *testing.T) {
	const keys = 1000
	l := newLimiter()
	now := time.Hour
	flood, other := packet.Addr{10: 0xff, 11: 0xff, 12: 10}, packet.Addr{10: 0xff, 11: 0xff, 12: 10}
	flood[14], other[14] = 1, 2 // of another /24
	taken := 0
	for range 10 * 1000 { // ten seconds, a thousand a second, from the addresses of one subnet
		now += time.Millisecond
		flood[15]++
		if l.allowUnknown(flood, keys, now) {
			taken += keys
		}
	}
	// Every ratelimit.ReseedInterval it finds a full bucket.
	if limit := 10*hmacRate/subnetShare + 3*hmacBurst; taken > limit {
		t.Errorf("one subnet took %d HMACs in ten seconds, of %d", taken, limit)
	}
	if !l.allowUnknown(other, keys, now) {
		t.Error("nothing is left for another subnet")
	}
}
