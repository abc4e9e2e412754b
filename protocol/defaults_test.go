package protocol

import (
	"math"
	"testing"
	"time"
)

func TestClockOffset(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000).Add(999_999 * time.Nanosecond)
	for _, c := range []struct {
		ms   int64
		want time.Duration
	}{
		{now.UnixMilli(), 0},
		{now.UnixMilli() + 30_000, 30 * time.Second},
		{now.UnixMilli() - 1, -time.Millisecond},
		{math.MaxInt64, math.MaxInt64 / time.Millisecond * time.Millisecond},
		{0, -time.Duration(now.UnixMilli()) * time.Millisecond},
	} {
		if got := ClockOffset(c.ms, now); got != c.want {
			t.Errorf("ClockOffset(%d) = %v, want %v", c.ms, got, c.want)
		}
	}
}
