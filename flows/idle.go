package flows

import (
	"math"
	"sync"
	"time"
)

const (
	// halfClosedTimeout is the idle time of a flow with one direction ended: its
	// client or its upstream may be gone. A transfer that continues in the other
	// direction is not affected.
	halfClosedTimeout = 5 * time.Minute
	// stallTimeout is how long a client may leave more than stallBytes
	// unacknowledged while no byte is relayed: as long as a kernel retransmits
	// (Linux's tcp_retries2). Such a flow may hold megabytes in buffers, unlike
	// an interactive session, which may wait for the idle time.
	stallTimeout = 15 * time.Minute
	stallBytes   = 16 << 10
)

// An idleTimer ends a flow without activity.
type idleTimer struct {
	f        *Flow
	idle     time.Duration
	inFlight func() int

	mu      sync.Mutex
	timer   *time.Timer
	half    bool // one direction has ended
	stopped bool
}

// startIdleTimer ends the flow when no byte has been relayed for the plan's
// idle time, or for one of the times above, until stop.
func (f *Flow) startIdleTimer(p *Plan) (stop func()) {
	w := &f.idleTimer
	w.f, w.idle, w.inFlight = f, p.Idle, p.InFlight
	if w.idle <= 0 {
		w.idle = math.MaxInt64
	}
	f.touch()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(min(w.idle, stallTimeout), w.check)
	return w.stop
}

// check ends the flow if it is time to, and otherwise restarts the timer.
func (w *idleTimer) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	quiet, limit := w.f.Idle(), w.idle
	if w.half {
		limit = min(limit, halfClosedTimeout)
	}
	switch {
	case quiet >= limit, quiet >= stallTimeout && w.inFlight != nil && w.inFlight() > stallBytes:
		w.f.cancel(errIdle)
	case quiet < stallTimeout:
		w.timer.Reset(min(limit, stallTimeout) - quiet)
	default:
		w.timer.Reset(limit - quiet)
	}
}

// halfClose records that one direction of the flow has ended.
func (w *idleTimer) halfClose() {
	w.f.touch() // the other side may take a moment to answer
	w.mu.Lock()
	w.half = true
	w.mu.Unlock()
	w.check()
}

func (w *idleTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
