package admission

import "github.com/knockgw/knockgw/internal/knock"

// A Simulator is a gate without goroutines, for packets of the past: what a running
// gate's workers do by and by, Settle does at once, by the clocks of its Options,
// which whoever has the packets sets to the time of each. It is for one
// goroutine. Until it is asked about a packet of the stack, it takes the packets
// for a capture of one direction, and passes every segment of an admitted flow.
type Simulator struct {
	*Gate
	worker  *knock.Worker
	builder *knock.Builder
}

// NewSimulator makes a Judge. Its Gate's Run must not be called.
func NewSimulator(o Options) (*Simulator, error) {
	g, err := New(o)
	if err != nil {
		return nil, err
	}
	g.inboundOnly = true
	return &Simulator{Gate: g, worker: g.knocks.NewWorker(), builder: g.knocks.NewBuilder()}, nil
}

// Advance brings the gate up to now: it decides the knocks that wait, and the SYNs
// that wait for them, forgets what is over, and turns the time slots.
func (j *Simulator) Advance() {
	j.rotateTable(j.builder)
	for j.worker.Step() {
	}
	j.sweep()
	for {
		select {
		case t := <-j.evicted:
			j.onEvicted(t)
		default:
			return
		}
	}
}
