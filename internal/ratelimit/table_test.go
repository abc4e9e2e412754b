package ratelimit

import (
	"testing"
	"time"
)

func TestSeedRotateSeparatesKeysThatShareABucket(t *testing.T) {
	now := time.Second
	var table Table
	seed := NewSeed(now)
	rate := Rate{PerSecond: 32, Burst: 128}
	const flood = 0
	other := 1
	for Lookup(&table, &seed, other) != Lookup(&table, &seed, flood) {
		other++
	}

	for Lookup(&table, &seed, flood).Take(1, rate, now) {
	}
	if Lookup(&table, &seed, other).Take(1, rate, now) {
		t.Fatal("the bucket is not shared")
	}
	for range 4 { // to share again four times has a chance of one in 8192^4
		now += ReseedInterval
		seed.Rotate(now)
		if Lookup(&table, &seed, other) != Lookup(&table, &seed, flood) {
			return
		}
	}
	t.Error("still shared")
}

func TestLookupDoesNotAllocate(t *testing.T) {
	type key struct {
		addr [16]byte
		port uint16
	}
	var table Table
	seed := NewSeed(0)
	k := key{addr: [16]byte{15: 1}, port: 22}
	if n := testing.AllocsPerRun(100, func() { Lookup(&table, &seed, k).Take(1, Rate{1, 1}, time.Hour) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
