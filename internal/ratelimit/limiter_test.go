package ratelimit

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiterAllowsBurstAndRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(Rate{PerSecond: 2, Burst: 5})
		allowed := func() int {
			var n atomic.Int64
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if l.Allow() {
						n.Add(1)
					}
				})
			}
			wg.Wait()
			return int(n.Load())
		}

		if used, limit := l.Used(); used != 0 || limit != 5 {
			t.Errorf("%d of %d used", used, limit)
		}
		if n := allowed(); n != 5 {
			t.Errorf("%d allowed at once", n)
		}
		time.Sleep(time.Second)
		if used, _ := l.Used(); used != 3 {
			t.Errorf("%d used a second later", used)
		}
		if n := allowed(); n != 2 {
			t.Errorf("%d allowed a second later", n)
		}
	})
}
