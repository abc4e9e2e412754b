package flows

import (
	"testing"
	"time"
)

func TestIdleTimerHalfClosed(t *testing.T) {
	for name, close := range map[string]func(w *world){
		"client":   func(w *world) { w.client.CloseWrite() },
		"upstream": func(w *world) { w.upstream.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t).knocked()
				w.plan.Idle = 24 * time.Hour
				begin := time.Now()
				done := w.serve()
				time.Sleep(time.Hour)
				close(w)
				<-done
				w.ended(CloseIdle)
				if took := time.Since(begin); took != time.Hour+halfClosedTimeout {
					t.Errorf("it ended after %v", took)
				}
			})
		})
	}
}

func TestIdleTimerHalfClosedActive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t).knocked()
		w.plan.Idle = 24 * time.Hour
		done := w.serve()
		w.send(w.client, "question")
		w.receive(w.upstream, "question")
		w.client.CloseWrite()
		for range 100 {
			time.Sleep(halfClosedTimeout - time.Second)
			w.send(w.upstream, "a line")
			w.receive(w.client, "a line")
		}
		last := time.Now()
		<-done
		w.ended(CloseIdle)
		if took := time.Since(last); took != halfClosedTimeout {
			t.Errorf("it ended %v after the last line", took)
		}
	})
}

func TestIdleTimerStalledClient(t *testing.T) {
	for inFlight, want := range map[int]time.Duration{0: 24 * time.Hour, stallBytes: 24 * time.Hour, stallBytes + 1: stallTimeout} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t).knocked()
			w.plan.Idle = 24 * time.Hour
			w.plan.InFlight = func() int { return inFlight }
			done := w.serve()
			time.Sleep(time.Minute)
			w.send(w.upstream, "a line")
			w.receive(w.client, "a line")
			last := time.Now()
			<-done
			w.ended(CloseIdle)
			if took := time.Since(last); took != want {
				t.Errorf("with %d bytes unacknowledged it ended after %v, not %v", inFlight, took, want)
			}
		})
	}
}

func TestIdleTimerDisabled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t).knocked()
		w.plan.Idle = 0
		done := w.serve()
		time.Sleep(1000 * time.Hour)
		if w.set.Len() != 1 {
			t.Error("it ended")
		}
		w.set.Kill(key)
		<-done
		w.ended(CloseKilled)
	})
}
