package ratelimit

import (
	"testing"
	"time"
)

var testPolicy = BanPolicy{After: 3, Within: time.Minute, For: 10 * time.Minute}

func TestBansBanAfterRepeatedFailures(t *testing.T) {
	b := NewBans[string](testPolicy, 10)
	now := time.Hour
	for n := 1; n <= 3; n++ {
		if failures, banned := b.Fail("a", now); failures != n || banned != (n == 3) {
			t.Errorf("failure %d: %d, %v", n, failures, banned)
		}
	}
	if !b.Banned("a", now+10*time.Minute-1) || b.Banned("a", now+10*time.Minute) || b.Banned("b", now) {
		t.Error("banned for another time, or another source")
	}

	// Failures of handshakes that began before do not begin another ban.
	for range 3 {
		if _, banned := b.Fail("a", now+time.Second); banned {
			t.Error("a ban that goes on begins again")
		}
	}
}

func TestBansForgetFailuresFarApart(t *testing.T) {
	b := NewBans[string](testPolicy, 10)
	now := time.Hour
	for range 20 {
		if _, banned := b.Fail("a", now); banned {
			t.Fatal("banned")
		}
		now += 31 * time.Second // never three within a minute
	}
	b.Sweep(1, now+time.Hour)
	if b.Len() != 0 {
		t.Errorf("%d sources are remembered", b.Len())
	}
}

func TestBansRememberABoundedNumberOfSources(t *testing.T) {
	b := NewBans[int](testPolicy, 10)
	for n := range 20 {
		b.Fail(n, time.Hour)
	}
	if b.Len() != 10 {
		t.Errorf("%d sources", b.Len())
	}
	n := 0
	for source, f := range b.All() {
		if f.Count != 1 || f.First != time.Hour || f.Until != 0 {
			t.Errorf("%+v", f)
		}
		b.Remove(source)
		n++
	}
	if n != 10 || b.Len() != 0 {
		t.Errorf("%d listed, %d left", n, b.Len())
	}
}

func TestBansWithoutAPolicyRecordNothing(t *testing.T) {
	b := NewBans[int](BanPolicy{}, 10)
	for range 100 {
		if n, banned := b.Fail(1, time.Hour); n != 0 || banned {
			t.Fatal("banned")
		}
	}
	if b.Len() != 0 {
		t.Error("recorded")
	}
}
