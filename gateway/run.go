package gateway

import (
	"context"
	"sync"
	"time"
)

// run is the gateway at work. The order in which it stops: refuse new flows,
// drain, close the device, wait for the stack, stop deciding knocks.
func (p *parts) run(ctx context.Context, all *servers) error {
	work, stop := context.WithCancelCause(context.Background())
	var (
		wg    sync.WaitGroup
		first error
		once  sync.Once
	)
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(work); err != nil {
				once.Do(func() { first = err })
				stop(err)
			}
		})
	}
	start(p.gate.Run)
	start(p.stack.Run)
	start(p.runFilter)
	start(p.g.runAudit)
	start(p.runIntact)
	start(p.runBypass)
	start(all.metrics.run)
	start(all.control.run)
	cfg := p.g.now.Load().cfg
	p.g.running.Store(p)
	started := "ready"
	if len(p.g.bypass.problems()) > 0 {
		started = "started, but not ready: see the errors before"
	}
	p.g.log.Info(started, "device", p.device.Info().Name, "routes", cfg.TUN.Routes, "services", len(cfg.Services), "metrics", cfg.Metrics.Listen)
	p.g.auditStart(cfg)
	close(p.g.ready)
	select {
	case <-ctx.Done():
		p.endReloads()
		p.drain()
	case <-work.Done():
		p.endReloads()
		p.gate.Drain()
		expired, cancel := context.WithCancel(context.Background())
		cancel()
		p.g.flows.Drain(expired)
	}
	p.g.auditStop(context.Cause(work))
	stop(nil)
	wg.Wait()
	return first
}

// endReloads waits for the reload that is under way, if any, and has no other begin.
func (p *parts) endReloads() {
	p.g.reloading.Lock()
	defer p.g.reloading.Unlock()
	p.g.running.Store(nil)
}

// drain refuses new flows and waits for those there are, until DrainTime is
// over; then it resets the rest. What relays have handed to the stack by then is
// waited for as well: a flow is over when its client has it all.
func (p *parts) drain() {
	p.gate.Drain()
	p.g.log.Info("stopping", "flows", p.g.flows.Len(), "drain", max(p.g.o.DrainTime, 0))
	p.g.now.Load().shut(nil) // nobody is going to accept these
	ctx, cancel := context.WithTimeout(context.Background(), max(p.g.o.DrainTime, 0))
	defer cancel()
	if left := p.g.flows.Drain(ctx); left > 0 {
		p.g.log.Info("flows reset", "count", left)
	}
	for p.gate.Unsettled() > 0 {
		select {
		case <-time.After(settlePoll):
		case <-ctx.Done():
			return
		}
	}
}

// settlePoll is how often the end of a drain asks whether everything was sent.
const settlePoll = 10 * time.Millisecond
