package admission

import (
	"context"
	"sync"
	"time"

	"github.com/knockgw/knockgw/packet"
)

const (
	// sweepInterval is how often what is over is forgotten. Nothing depends on
	// its being prompt: whatever has a deadline is checked against it when used.
	sweepInterval = 250 * time.Millisecond
	// sweepBatch is how many entries one hold of the lock looks at: the packet
	// path waits no longer than that takes (some tens of microseconds).
	sweepBatch = 256
	// minYield is the part of a batch of sources, one in so many, that must
	// have had grants to forget for a sweep to go on with another batch.
	minYield = 4
	// halfOpenTime is how long a flow may take to be let in, on an open service
	// or after its grant: a minute to reach the upstream or to authenticate at the
	// most, and the 127 s for which the stack repeats its SYN-ACK, rounded up. By
	// then it has ended by itself, unless the stack never took its SYN.
	halfOpenTime = 200 * time.Second
	// openHandshakeTime is how long a handshake with an open service may take: the
	// time that those with hidden services have. The stack has sent its SYN-ACK
	// five times by then, or has answered with a SYN cookie and forgotten.
	openHandshakeTime = 20 * time.Second
	// sweepBatches is how many batches of each set of flows that are not let in
	// one sweep looks at: 32 Ki flows, the open services' share, within 2 s.
	sweepBatches = 16
)

// Run decides knocks and forgets what is over, until ctx ends; then it waits
// for its workers. One worker decides: with more than that, a flood of junk
// knocks could take every processor from the packets.
func (g *Gate) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { g.knocks.NewWorker().Run(ctx) })
	wg.Go(func() { g.notifyEvictions(ctx) })
	b := g.knocks.NewBuilder()
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			g.sweep()
			g.rotateTable(b)
		}
	}
}

func (g *Gate) notifyEvictions(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-g.evicted:
			g.notifyEvicted(t)
		case t := <-g.evictedOpen:
			g.notifyEvicted(t)
		}
	}
}

// notifyEvicted has the stack forget a flow, unless its SYN has come again and been
// admitted since: what the stack holds is that flow's then.
func (g *Gate) notifyEvicted(t packet.Tuple) {
	g.mu.Lock()
	back := g.flows[t] != nil
	g.mu.Unlock()
	if !back {
		g.onEvicted(t)
	}
}

// sweep forgets closed flows, half-open ones that came to nothing, grants and
// parked SYNs that are over.
func (g *Gate) sweep() {
	g.sweepParked()
	g.sweepEnding()
	for g.sweepFlows() {
	}
	g.sweepUnproven()
	g.sweepSilent()
	for g.sweepGrants() {
	}
	g.knocks.Sweep(sweepBatch)
	g.sweepBans()
}

// sweepParked decides for good about the SYNs that were parked for too long.
func (g *Gate) sweepParked() {
	g.mu.Lock()
	empty := g.deferred.head == nilIndex
	g.mu.Unlock()
	if empty {
		return
	}
	for u := new(retryBuffer); g.expireDeferred(u); {
	}
}

// sweepEnding asks the stack about every flow that was ending when it was
// called, once.
func (g *Gate) sweepEnding() {
	g.mu.Lock()
	left := g.closing.n
	g.mu.Unlock()
	var batch [sweepBatch]packet.Tuple
	for left > 0 {
		g.mu.Lock()
		n := 0
		for f := g.closing.head; f != nil && n < min(left, sweepBatch); f, n = f.next, n+1 {
			batch[n] = f.tuple
		}
		g.mu.Unlock()
		if n == 0 {
			return
		}
		left -= n
		var how [sweepBatch]CloseState
		for i, t := range batch[:n] {
			how[i] = g.closeState(t)
		}
		g.mu.Lock()
		for i, t := range batch[:n] {
			if f := g.flows[t]; f != nil && f.state == stateClosing {
				g.move(f, how[i])
			}
		}
		g.mu.Unlock()
	}
}

// NumClosing returns how many flows, of those whose relay is done, still have
// something to send or wait for their peer's end. It asks the stack about each.
func (g *Gate) NumClosing() int {
	g.sweepEnding()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closing.n
}

// move puts an ending flow where the stack's answer wants it. The caller holds g.mu.
func (g *Gate) move(f *flow, how CloseState) {
	f.unlink()
	switch how {
	case EndpointClosed:
		g.drop(f)
	case EndpointTimeWait:
		f.state = stateTimeWait
		f.expires = g.mono() + g.timeWait
		g.inTimeWait.push(f)
	case EndpointBusy:
		g.closing.push(f)
	}
}

// sweepFlows forgets up to a batch of closed flows and reports whether it was a
// full one.
func (g *Gate) sweepFlows() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.mono()
	g.tick = now
	n := 0
	for f := g.inTimeWait.head; f != nil && f.expires <= now && n < sweepBatch; f = g.inTimeWait.head {
		g.drop(f)
		n++
	}
	return n == sweepBatch
}

// sweepGrants forgets the grants that are over in a batch of sources. It tells
// whether another batch is worth it: the grants that are over count against
// Limits.Grants, so they must not outnumber those that are not.
func (g *Gate) sweepGrants() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.grants == 0 {
		return false
	}
	// The order of a map is random, so the sources that one sweep does not
	// reach are reached by a later one.
	now, n, over := g.mono(), 0, 0
	for _, s := range g.sources {
		if g.expireGrants(s, now) {
			over++
		}
		g.removeIfUnused(s)
		if n++; n == sweepBatch {
			return over > sweepBatch/minYield
		}
	}
	return false
}

// sweepN calls drop for the entries of m that are over, of a batch at most:
// the order of a map is random, so the turn of the others comes.
func sweepN[K comparable, V any](m map[K]V, over func(V) bool, drop func(K)) {
	n := 0
	for k, v := range m {
		if over(v) {
			drop(k)
		}
		if n++; n == sweepBatch {
			return
		}
	}
}
