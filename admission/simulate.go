package admission

import "github.com/knockgw/knockgw/internal/knock"

// A Simulator is a gate without goroutines, for packets of the past: what the
// goroutines of a running gate do over time, Advance does at once, by the
// clocks of its Options, which the caller sets to the time of each packet. It
// is for one goroutine. Until it is asked about a packet of the stack, it takes
// the packets for a capture of one direction, and passes every segment of an
// admitted flow.
type Simulator struct {
	*Gate
	worker  *knock.Worker
	builder *knock.Builder
}

// NewSimulator makes a Simulator. Its Gate's Run must not be called.
func NewSimulator(o Options) (*Simulator, error) {
	g, err := New(o)
	if err != nil {
		return nil, err
	}
	g.inboundOnly = true
	return &Simulator{Gate: g, worker: g.knocks.NewWorker(), builder: g.knocks.NewBuilder()}, nil
}

// Advance brings the gate up to now: it decides the knocks that wait, and the
// SYNs that wait for them, forgets what has expired, and computes the knocks of
// new time slots.
func (s *Simulator) Advance() {
	s.rotateTable(s.builder)
	for s.worker.Step() {
	}
	s.sweep()
	for {
		select {
		case t := <-s.flows.evicted:
			s.flows.onEvicted(t)
		default:
			return
		}
	}
}
