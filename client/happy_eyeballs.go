package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// dialRace makes attempts until one of them has a connection. One goroutine decides,
// in run; each attempt has one of its own that tells it what happened:
//
//	timer --> begin --> fly ----> knocked, landed --> run --> a connection: the others are called back
//	  ^                                                |--> failed for good: its address is, too
//	  '---------------- the next one's delay <---------'--> no address is left, or no time: over
type dialRace struct {
	*Dialer
	session  []byte
	queue    []netip.AddrPort       // addresses that have not failed for good, the next one first
	attempts map[netip.AddrPort]int // attempts at each
	inFlight []*attempt             // oldest first
	started  int                    // attempts, of earlier races of the dial too
	pending  bool                   // an attempt waits for another to land
	events   chan event
	wg       sync.WaitGroup
	timer    *time.Timer

	failures []error // of addresses, for good
	furthest string  // the furthest that one of them came
}

// attempt is an attempt under way.
type attempt struct {
	Attempt
	cancel  context.CancelFunc
	knocked time.Time // the last knock; zero for none
}

// event is what a flight has to tell.
type event struct {
	*attempt
	at   time.Time
	done bool // or else knocked
	conn net.Conn
	step string
	err  error
}

func (d *Dialer) newRace(targets []netip.AddrPort, session []byte, begun int) *dialRace {
	return &dialRace{
		Dialer: d, session: session, queue: slices.Clone(targets), attempts: map[netip.AddrPort]int{},
		started: begun, events: make(chan event), furthest: StepKnock,
	}
}

// errFailed says that every address has failed for good: race.failures have why.
var errFailed = errors.New("every address has failed")

// run returns the first connection and whose it is, or errFailed, or what ctx
// says. When it returns, nothing but that connection is left.
func (r *dialRace) run(ctx context.Context) (net.Conn, *attempt, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer r.cancelAll(cancel)
	r.timer = time.NewTimer(initialBackoff)
	defer r.timer.Stop()
	r.startNext(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-r.timer.C:
			r.startNext(ctx)
		case e := <-r.events:
			if !e.done {
				r.onKnocked(e)
				continue
			}
			r.inFlight = slices.DeleteFunc(r.inFlight, func(f *attempt) bool { return f == e.attempt })
			if ctx.Err() != nil && e.err != nil {
				return nil, nil, ctx.Err() // the attempt failed by it
			}
			if e.conn != nil {
				r.Trace.connected(e.result(), nil)
				return e.conn, e.attempt, nil
			}
			if err := r.onFailed(ctx, e); err != nil {
				return nil, nil, err
			}
		}
	}
}

// cancelAll calls back what is flying, and waits until it is down.
func (r *dialRace) cancelAll(cancel context.CancelFunc) {
	cancel()
	for len(r.inFlight) > 0 {
		e := <-r.events
		if !e.done {
			continue
		}
		r.inFlight = slices.DeleteFunc(r.inFlight, func(f *attempt) bool { return f == e.attempt })
		if e.conn != nil {
			_ = e.conn.Close() // nobody has heard of it
		}
	}
	r.wg.Wait()
}

// startNext begins the next attempt, unless it has to wait for another to land.
func (r *dialRace) startNext(ctx context.Context) {
	if len(r.queue) == 0 {
		return
	}
	most := maxInFlight
	if r.localPort() != 0 {
		most = 1
	}
	if r.pending = len(r.inFlight) >= most; r.pending {
		r.inFlight[0].cancel()
		return
	}
	target := r.queue[0]
	r.queue = r.queue[1:]
	if !r.NoKnock {
		r.queue = append(r.queue, target)
	}
	r.started++
	r.attempts[target]++
	ctx, cancel := context.WithCancel(ctx)
	f := &attempt{Attempt: Attempt{Number: r.started, Target: target, Start: time.Now()}, cancel: cancel}
	r.inFlight = append(r.inFlight, f)
	r.wg.Go(func() { r.runAttempt(ctx, f) })
	if len(r.queue) > 0 {
		r.timer.Reset(r.delay())
	}
}

// delay is how long the next attempt waits for the ones before it.
func (r *dialRace) delay() time.Duration {
	attempts := r.attempts[r.queue[0]]
	if attempts == 0 {
		return attemptDelay
	}
	return max(backoff(attempts)/time.Duration(len(r.queue)), minInterval)
}

// runAttempt is an attempt's goroutine.
func (r *dialRace) runAttempt(ctx context.Context, f *attempt) {
	defer f.cancel()
	conn, step, err := r.reachTarget(ctx, f.Target, r.session, func(err error) {
		r.events <- event{attempt: f, at: time.Now(), err: err}
	})
	r.events <- event{attempt: f, at: time.Now(), done: true, conn: conn, step: step, err: err}
}

// result is the attempt as of the event.
func (e *event) result() Attempt {
	a := e.Attempt
	a.Elapsed = e.at.Sub(a.Start)
	return a
}

func (r *dialRace) onKnocked(e event) {
	if e.err == nil {
		e.knocked = e.at
	}
	if !errors.Is(e.err, context.Canceled) {
		r.Trace.knocked(e.result(), e.err)
	}
}

// onFailed draws the conclusions from an attempt without a connection. Its error
// says that the race is over.
func (r *dialRace) onFailed(ctx context.Context, e event) error {
	calledBack := errors.Is(e.err, context.Canceled)
	if !calledBack && e.step == StepConnect {
		r.Trace.connected(e.result(), e.err)
	}
	if !calledBack && (r.NoKnock || !isTransient(e.err)) {
		r.failures = append(r.failures, e.err)
		if e.step == StepConnect {
			r.furthest = StepConnect
		}
		var raw *RawSocketError
		if errors.Is(e.err, ErrOption) || errors.As(e.err, &raw) {
			return errFailed // wherever it goes to
		}
		r.queue = slices.DeleteFunc(r.queue, func(t netip.AddrPort) bool { return t == e.Target })
		for _, f := range r.inFlight {
			if f.Target == e.Target {
				f.cancel()
			}
		}
		r.pending = r.pending || len(r.queue) > 0 && r.attempts[r.queue[0]] == 0
	}
	if r.pending {
		r.startNext(ctx)
	}
	if len(r.queue) == 0 && len(r.inFlight) == 0 {
		return errFailed
	}
	return nil
}

// isTransient reports whether an attempt that failed so says nothing about the next
// one: it was not answered in time, what answered was cut off, or the address
// that it came from was removed.
func isTransient(err error) bool {
	var timeout net.Error
	return isSourceGone(err) || errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, connectionReset)
}
