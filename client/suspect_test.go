package client

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestLossesAreNeverTakenForAWrongClock(t *testing.T) {
	const times = 300
	const heeded = 0.2 // beyond it, what the fake network retransmits heeds no deadline
	for _, noAuth := range []bool{false, true} {
		for _, loss := range []float64{0, 0.1, 0.2, 0.35, 0.5} {
			t.Run(fmt.Sprintf("%v of all packets, without an authentication: %v", loss, noAuth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for i := range times {
						n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): gate})
						n.loss, n.random, n.noAuth = loss, random(i), noAuth
						for range i % 4 {
							n.leave() // what the dial that failed has left
						}
						began := time.Now()
						if offset := n.dialer(t).suspectClock(t.Context(), []netip.AddrPort{second4}); offset != 0 {
							t.Errorf("seed %d: a right clock is %v off", i, offset)
						}
						if took := time.Since(began); took > suspectTime && loss <= heeded {
							t.Errorf("took %v", took)
						}
					}
				})
			})
		}
	}
}

func TestAWrongClockIsToldWhereSomeIsLost(t *testing.T) {
	const times = 100 // for each
	for _, c := range []struct {
		loss  float64
		trip  time.Duration
		least int // of times that are told
	}{
		{0, 20 * time.Millisecond, times},
		{0, 60 * time.Millisecond, times},
		{0, 100 * time.Millisecond, times},
		{0.02, 20 * time.Millisecond, times / 2},
		{0.05, 20 * time.Millisecond, times / 5},
		{0.2, 20 * time.Millisecond, 0},
	} {
		t.Run(fmt.Sprintf("%v of all packets, %v", c.loss, c.trip), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := 0
				for i := range times {
					n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): gate})
					n.loss, n.trip, n.random, n.clock = c.loss, c.trip, random(i), 41*time.Second
					offset := n.dialer(t).suspectClock(t.Context(), []netip.AddrPort{second4})
					if offset == 0 {
						continue
					}
					told++
					if (offset + n.clock).Abs() > fakeWindow {
						t.Errorf("seed %d: told %v", i, offset)
					}
				}
				t.Logf("told %d of %d", told, times)
				if told < c.least {
					t.Errorf("told %d of %d", told, times)
				}
			})
		})
	}
}
