package gateway

// A Pulse is how far the packet reader was at a moment at which the gate answered.
type Pulse struct{ steps uint64 }

// Pulse asks the gate for its lock and returns when it has had it: whoever waits for
// a Pulse in vain waits for a gateway that admits nobody. ErrNotRunning before it is
// ready and once it stops.
func (g *Gateway) Pulse() (Pulse, error) {
	p := g.running.Load()
	if p == nil {
		return Pulse{}, ErrNotRunning
	}
	p.gate.Stats()
	return Pulse{p.stack.Ticks()}, nil
}

// StuckSince tells whether the packet reader is with the packet that it was with at an
// earlier Pulse.
func (p Pulse) StuckSince(earlier Pulse) bool { return p.steps%2 == 1 && p.steps == earlier.steps }
