package loglimit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
)

func TestLimiterSuppresses(t *testing.T) {
	for _, one := range []struct {
		perSecond, want int
	}{{0, loglimit.PerSecond}, {2, 2}} {
		s := loglimit.Limiter{PerSecond: one.perSecond}
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		written := 0
		const lines = 1000
		for range lines {
			if _, ok := s.Allow(now); ok {
				written++
			}
		}
		if written != one.want {
			t.Errorf("%d lines of %d", written, one.want)
		}
		if left, ok := s.Allow(now.Add(time.Second)); !ok || left != lines-one.want {
			t.Errorf("a second later: %v, %d left out", ok, left)
		}
		if _, ok := s.Allow(now.Add(-time.Hour)); !ok {
			t.Error("a clock that was set back ends all lines")
		}
	}
}

func TestAttrs(t *testing.T) {
	if got := loglimit.Attrs(0, "a", 1); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if got := loglimit.Attrs(3, "a", 1); !slices.Equal(got, []any{"a", 1, "suppressed", 3}) {
		t.Errorf("%v", got)
	}
}
