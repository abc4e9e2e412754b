package admission

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// sweepInterval is how often expired entries are forgotten. Nothing depends
	// on its being prompt: whatever has a deadline is checked against it when
	// used.
	sweepInterval = 250 * time.Millisecond
	// sweepBatch is how many entries are examined while the lock is held: the
	// packet path waits no longer than that takes (some tens of microseconds).
	sweepBatch = 256
	// minYield is the part of a batch of sources, one in so many, that must have
	// had expired grants for a sweep to go on with another batch.
	minYield = 4
	// halfOpenTime is how long a flow may take to be authorized, on an open
	// service or after its grant: a minute at most to reach the upstream or to
	// authenticate, and the 127 s for which the stack repeats its SYN-ACK,
	// rounded up. By then it has ended by itself, unless the stack never took
	// its SYN.
	halfOpenTime = 200 * time.Second
	// openHandshakeTime is how long a handshake with an open service may take:
	// the time that handshakes with hidden services have. The stack has sent
	// its SYN-ACK five times by then, or has answered with a SYN cookie and
	// forgotten.
	openHandshakeTime = 20 * time.Second
	// sweepBatches is how many batches of each set of flows that are not
	// authorized one sweep examines: 32 Ki flows, the open services' share,
	// within 2 s.
	sweepBatches = 16
)

// Run decides knocks and forgets what has expired, until ctx ends; then it
// waits for its workers. One worker decides: with more than that, a flood of
// junk knocks could take every processor from the packets.
func (g *Gate) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { g.knocks.NewWorker().Run(ctx) })
	wg.Go(func() { g.flows.notifyEvictions(ctx) })

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

// sweep forgets closed flows, half-open ones that came to nothing, and grants
// and deferred SYNs that have expired.
func (g *Gate) sweep() {
	g.mu.Lock()
	deferred := g.deferred.n
	g.mu.Unlock()
	if deferred > 0 {
		for b := new(retryBuffer); g.expireDeferred(b); {
		}
	}

	g.flows.pollClosing()
	for g.flows.sweepTimeWait() {
	}
	g.flows.sweepPending()
	g.flows.sweepSilent()
	for g.sources.sweep() {
	}
	g.knocks.Sweep(sweepBatch)
	g.bans.sweep()
}

// batch counts entries that were examined while a lock is held, which it
// releases after each sweepBatch: the packet path does not wait for a whole
// table.
type batch struct{ n int }

// yield counts one. The caller holds mu before and after.
func (b *batch) yield(mu *sync.Mutex) {
	if b.n++; b.n%sweepBatch == 0 {
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
	}
}
