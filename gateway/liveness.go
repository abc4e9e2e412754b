package gateway

// Liveness is the progress of the packet reader at one moment.
type Liveness struct{ ticks uint64 }

// Heartbeat acquires and releases the gate's lock, and returns the progress of
// the packet reader. If it does not return, the packet path is deadlocked. It
// returns ErrNotRunning before the gateway is ready, and once it stops.
func (g *Gateway) Heartbeat() (Liveness, error) {
	in := g.running.Load()
	if in == nil {
		return Liveness{}, ErrNotRunning
	}
	in.gate.Stats()
	return Liveness{in.stack.Ticks()}, nil
}

// Stalled reports whether the packet reader still processes the packet that it
// processed at an earlier heartbeat.
func (l Liveness) Stalled(earlier Liveness) bool { return l.ticks%2 == 1 && l.ticks == earlier.ticks }
