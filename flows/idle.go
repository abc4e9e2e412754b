package flows

import (
	"math"
	"sync"
	"time"
)

const (
	// halfClosedTime is how long a flow may be silent of which one direction has
	// ended: its client, or its upstream, may have given up. A transfer that goes
	// on in the other direction is none of that.
	halfClosedTime = 5 * time.Minute
	// stalledTime is how long a client may leave more than stalledBytes
	// unacknowledged while nothing moves: as long as a kernel tries (Linux's
	// tcp_retries2). What else such a flow holds in buffers is worth megabytes,
	// unlike a session at a prompt, which may wait for the idle time.
	stalledTime  = 15 * time.Minute
	stalledBytes = 16 << 10
)

// An idleWatch ends a flow in which nothing moves.
type idleWatch struct {
	f        *Flow
	idle     time.Duration
	inFlight func() int

	mu      sync.Mutex
	timer   *time.Timer
	half    bool // one direction has ended
	stopped bool
}

// watchIdle ends the flow when no byte has moved in either direction for the
// plan's idle time, or for one of the times above, until stop.
func (f *Flow) watchIdle(p *Plan) (stop func()) {
	w := &f.idle
	w.f, w.idle, w.inFlight = f, p.Idle, p.InFlight
	if w.idle <= 0 {
		w.idle = math.MaxInt64
	}
	f.moves()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(min(w.idle, stalledTime), w.check)
	return w.stop
}

// check ends the flow if it is time to, and waits on if not.
func (w *idleWatch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	quiet, limit := w.f.Idle(), w.idle
	if w.half {
		limit = min(limit, halfClosedTime)
	}
	switch {
	case quiet >= limit, quiet >= stalledTime && w.inFlight != nil && w.inFlight() > stalledBytes:
		w.f.cancel(errIdle)
	case quiet < stalledTime:
		w.timer.Reset(min(limit, stalledTime) - quiet)
	default:
		w.timer.Reset(limit - quiet)
	}
}

// halfClose notes that one direction of the flow has ended.
func (w *idleWatch) halfClose() {
	w.f.moves() // it may take the other a moment to answer
	w.mu.Lock()
	w.half = true
	w.mu.Unlock()
	w.check()
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
