package admission

import "github.com/knockgw/knockgw/internal/knock"

// A Judge is a gate without goroutines, for packets of the past: what a running
// gate's workers do by and by, Settle does at once, by the clocks of its Options,
// which whoever has the packets sets to the time of each. It is for one
// goroutine. Until it is asked about a packet of the stack, it takes the packets
// for a capture of one direction, and passes every segment of an admitted flow.
type Judge struct {
	*Gate
	worker  *knock.Worker
	builder *knock.Builder
}

// NewJudge makes a Judge. Its Gate's Run must not be called.
func NewJudge(o Options) (*Judge, error) {
	g, err := New(o)
	if err != nil {
		return nil, err
	}
	g.inboundOnly = true
	return &Judge{Gate: g, worker: g.knocks.NewWorker(), builder: g.knocks.NewBuilder()}, nil
}

// Settle brings the gate up to now: it decides the knocks that wait, and the SYNs
// that wait for them, forgets what is over, and turns the time slots.
func (j *Judge) Settle() {
	j.rotateTable(j.builder)
	for j.worker.Step() {
	}
	j.sweep()
	for {
		select {
		case t := <-j.evicted:
			j.notify(t)
		default:
			return
		}
	}
}
