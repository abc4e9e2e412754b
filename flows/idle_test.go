package flows

import (
	"testing"
	"time"
)

func TestIdleTimerHalfClosed(t *testing.T) {
	for name, close := range map[string]func(th *harness){
		"client":   func(th *harness) { th.client.CloseWrite() },
		"upstream": func(th *harness) { th.upstream.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).knocked()
				th.plan.Idle = 24 * time.Hour
				begin := time.Now()
				done := th.serve()
				time.Sleep(time.Hour)
				close(th)
				<-done
				th.ended(CloseIdle)
				if took := time.Since(begin); took != time.Hour+halfClosedTimeout {
					t.Errorf("it ended after %v", took)
				}
			})
		})
	}
}

func TestIdleTimerHalfClosedActive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		th.plan.Idle = 24 * time.Hour
		done := th.serve()
		th.send(th.client, "question")
		th.receive(th.upstream, "question")
		th.client.CloseWrite()
		for range 100 {
			time.Sleep(halfClosedTimeout - time.Second)
			th.send(th.upstream, "a line")
			th.receive(th.client, "a line")
		}
		last := time.Now()
		<-done
		th.ended(CloseIdle)
		if took := time.Since(last); took != halfClosedTimeout {
			t.Errorf("it ended %v after the last line", took)
		}
	})
}

func TestIdleTimerStalledClient(t *testing.T) {
	for inFlight, want := range map[int]time.Duration{0: 24 * time.Hour, stallBytes: 24 * time.Hour, stallBytes + 1: stallTimeout} {
		bubble(t, func(t *testing.T) {
			th := newHarness(t).knocked()
			th.plan.Idle = 24 * time.Hour
			th.plan.InFlight = func() int { return inFlight }
			done := th.serve()
			time.Sleep(time.Minute)
			th.send(th.upstream, "a line")
			th.receive(th.client, "a line")
			last := time.Now()
			<-done
			th.ended(CloseIdle)
			if took := time.Since(last); took != want {
				t.Errorf("with %d bytes unacknowledged it ended after %v, not %v", inFlight, took, want)
			}
		})
	}
}

func TestIdleTimerDisabled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		th.plan.Idle = 0
		done := th.serve()
		time.Sleep(1000 * time.Hour)
		if th.set.Len() != 1 {
			t.Error("it ended")
		}
		th.set.Kill(key)
		<-done
		th.ended(CloseKilled)
	})
}
