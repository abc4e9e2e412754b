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

// dialRace starts attempts until one of them has a connection (RFC 8305, with a
// knock before each connection). The goroutine of run makes all decisions; each
// attempt has its own goroutine, which sends it events:
//
//	timer --> startNext --> runAttempt ----> knocked, done --> run --> connected: cancel the others
//	  ^                                                         |--> permanent failure: remove the address
//	  '----------------- delay of the next attempt <------------'--> no address or no time left: end
type dialRace struct {
	*Dialer
	session  []byte
	queue    []netip.AddrPort       // addresses without a permanent failure, the next one first
	attempts map[netip.AddrPort]int // number of attempts, by address
	inFlight []*attempt             // oldest first
	started  int                    // attempts, including those of earlier races of the same dial
	pending  bool                   // an attempt waits for another one to end
	events   chan event
	wg       sync.WaitGroup // attempts
	timer    *time.Timer    // starts the next attempt

	failures []error // permanent, one for each address
	furthest string  // the furthest step at which one of them failed
}

// attempt is an attempt in progress.
type attempt struct {
	Attempt
	cancel  context.CancelFunc
	knocked time.Time // of the last knock; zero for none
}

// event is sent by an attempt after each knock, and when it is done.
type event struct {
	*attempt
	at   time.Time
	done bool // or else: knocked
	conn net.Conn
	step string
	err  error
}

func (d *Dialer) newRace(targets []netip.AddrPort, session []byte, started int) *dialRace {
	return &dialRace{
		Dialer: d, session: session, queue: slices.Clone(targets), attempts: map[netip.AddrPort]int{},
		started: started, events: make(chan event), furthest: StepKnock,
	}
}

// errFailed reports that every address has failed permanently; the causes are in
// dialRace.failures.
var errFailed = errors.New("every address has failed")

// run returns the first connection and its attempt, or errFailed, or the error
// of ctx. When it returns, all other attempts have ended and their sockets are
// closed.
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
			r.remove(e.attempt)
			if ctx.Err() != nil && e.err != nil {
				return nil, nil, ctx.Err() // which is why the attempt failed
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

// remove removes an attempt that is done.
func (r *dialRace) remove(a *attempt) {
	r.inFlight = slices.DeleteFunc(r.inFlight, func(f *attempt) bool { return f == a })
}

// cancelAll cancels the attempts in flight and waits until they are done.
func (r *dialRace) cancelAll(cancel context.CancelFunc) {
	cancel()
	for len(r.inFlight) > 0 {
		e := <-r.events
		if !e.done {
			continue
		}
		r.remove(e.attempt)
		if e.conn != nil {
			_ = e.conn.Close() // it was not used
		}
	}
	r.wg.Wait()
}

// startNext starts the next attempt. At the limit of concurrent attempts, it
// cancels the oldest one, and the next attempt waits for that to end.
func (r *dialRace) startNext(ctx context.Context) {
	if len(r.queue) == 0 {
		return
	}
	limit := maxInFlight
	if r.localPort() != 0 {
		limit = 1
	}
	if r.pending = len(r.inFlight) >= limit; r.pending {
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
	a := &attempt{Attempt: Attempt{Number: r.started, Target: target, Start: time.Now()}, cancel: cancel}
	r.inFlight = append(r.inFlight, a)
	r.wg.Go(func() { r.runAttempt(ctx, a) })

	if len(r.queue) > 0 {
		r.timer.Reset(r.delay())
	}
}

// delay returns the time between the last attempt and the next one.
func (r *dialRace) delay() time.Duration {
	attempts := r.attempts[r.queue[0]]
	if attempts == 0 {
		return attemptDelay
	}
	return max(backoff(attempts)/time.Duration(len(r.queue)), minInterval)
}

// runAttempt is the goroutine of an attempt.
func (r *dialRace) runAttempt(ctx context.Context, a *attempt) {
	defer a.cancel()
	conn, step, err := r.reachTarget(ctx, a.Target, r.session, func(err error) {
		r.events <- event{attempt: a, at: time.Now(), err: err}
	})
	r.events <- event{attempt: a, at: time.Now(), done: true, conn: conn, step: step, err: err}
}

// result returns the attempt as of the event.
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

// onFailed handles an attempt that ended without a connection. It returns an
// error when the race is over.
func (r *dialRace) onFailed(ctx context.Context, e event) error {
	canceled := errors.Is(e.err, context.Canceled)
	if !canceled && e.step == StepConnect {
		r.Trace.connected(e.result(), e.err)
	}

	if !canceled && (r.NoKnock || !isTransient(e.err)) {
		r.failures = append(r.failures, e.err)
		if e.step == StepConnect {
			r.furthest = StepConnect
		}
		var raw *RawSocketError
		if errors.Is(e.err, ErrOption) || errors.As(e.err, &raw) {
			return errFailed // every address would fail with it
		}
		r.queue = slices.DeleteFunc(r.queue, func(t netip.AddrPort) bool { return t == e.Target })
		for _, a := range r.inFlight {
			if a.Target == e.Target {
				a.cancel()
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

// isTransient reports whether a failed attempt predicts nothing about the next
// one: it timed out, the connection was reset, or its source address was
// removed.
func isTransient(err error) bool {
	var timeout net.Error
	return isSourceGone(err) || errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, connectionReset)
}
