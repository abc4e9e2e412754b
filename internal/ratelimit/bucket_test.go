package ratelimit

import (
	"testing"
	"time"
)

func TestBucketHoldsBurstAndFillsAtRate(t *testing.T) {
	r := Rate{PerSecond: 2, Burst: 5}
	var b Bucket
	now := time.Hour
	for _, step := range []struct {
		pause time.Duration
		want  int
	}{
		{0, 5}, {499 * time.Millisecond, 0}, {time.Millisecond, 1}, {time.Second, 2},
		{2499 * time.Millisecond, 4}, {time.Hour, 5}, {0, 0}, {2500 * time.Millisecond, 5},
	} {
		now += step.pause
		n := 0
		for range 100 {
			if b.Take(1, r, now) {
				n++
			}
		}
		if n != step.want {
			t.Errorf("after %v: %d of 100, want %d", step.pause, n, step.want)
		}
	}
}

func TestBucketGivesWholeBurstAtAnyRate(t *testing.T) {
	for _, r := range []Rate{{3, 5}, {7, 1}, {1 << 20, 1 << 18}, {0.3, 2}, {1e9, 10}} {
		var b Bucket
		for n := range int(r.Burst) {
			if !b.Take(1, r, 0) {
				t.Errorf("%+v: refused after %d", r, n)
				break
			}
		}
		if used := float64(b.Used(r, 0)); used > r.Burst || used < 0.99*r.Burst {
			t.Errorf("%+v: %v used of a burst", r, used)
		}
	}
}

func TestBucketRefusesMoreThanBurst(t *testing.T) {
	var b Bucket
	r := Rate{PerSecond: 10, Burst: 10}
	if b.Take(11, r, time.Hour) || b.Used(r, time.Hour) != 0 {
		t.Error("more than there can ever be was taken")
	}
	if !b.Take(10, r, time.Hour) {
		t.Error("a full bucket refuses its burst")
	}
}

func TestBucketUsedFallsWithTime(t *testing.T) {
	var b Bucket
	r := Rate{PerSecond: 1 << 20, Burst: 1 << 18}
	now := time.Hour
	b.Take(1000, r, now)
	if n := b.Used(r, now); n != 1000 {
		t.Errorf("%d used", n)
	}
	if n := b.Used(r, now+time.Second); n != 0 {
		t.Errorf("%d used a second later", n)
	}
}

func BenchmarkBucketTake(b *testing.B) {
	var bucket Bucket
	r := Rate{PerSecond: 1 << 20, Burst: 1 << 18}
	now := time.Duration(0)
	for b.Loop() {
		now += 1000
		bucket.Take(1, r, now)
	}
}
