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

// race makes attempts until one of them has a connection. One goroutine decides,
// in run; each attempt has one of its own that tells it what happened:
//
//	timer --> begin --> fly ----> knocked, landed --> run --> a connection: the others are called back
//	  ^                                                |--> failed for good: its address is, too
//	  '---------------- the next one's delay <---------'--> no address is left, or no time: over
type race struct {
	*Dialer
	session []byte
	queue   []netip.AddrPort       // addresses that have not failed for good, the next one first
	tries   map[netip.AddrPort]int // attempts at each
	flying  []*flight              // oldest first
	begun   int                    // attempts, of earlier races of the dial too
	due     bool                   // an attempt waits for another to land
	events  chan event
	running sync.WaitGroup
	timer   *time.Timer

	failures []error // of addresses, for good
	step     string  // the furthest that one of them came
}

// flight is an attempt under way.
type flight struct {
	Attempt
	cancel  context.CancelFunc
	knocked time.Time // the last knock; zero for none
}

// event is what a flight has to tell.
type event struct {
	*flight
	at     time.Time
	landed bool // or else knocked
	conn   net.Conn
	step   string
	err    error
}

func (d *Dialer) newRace(targets []netip.AddrPort, session []byte, begun int) *race {
	return &race{
		Dialer: d, session: session, queue: slices.Clone(targets), tries: map[netip.AddrPort]int{},
		begun: begun, events: make(chan event), step: StepKnock,
	}
}

// errFailed says that every address has failed for good: race.failures have why.
var errFailed = errors.New("every address has failed")

// run returns the first connection and whose it is, or errFailed, or what ctx
// says. When it returns, nothing but that connection is left.
func (r *race) run(ctx context.Context) (net.Conn, *flight, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer r.land(cancel)
	r.timer = time.NewTimer(firstRetry)
	defer r.timer.Stop()
	r.begin(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-r.timer.C:
			r.begin(ctx)
		case e := <-r.events:
			if !e.landed {
				r.hasKnocked(e)
				continue
			}
			r.flying = slices.DeleteFunc(r.flying, func(f *flight) bool { return f == e.flight })
			if ctx.Err() != nil && e.err != nil {
				return nil, nil, ctx.Err() // the attempt failed by it
			}
			if e.conn != nil {
				r.Trace.connected(e.after(), nil)
				return e.conn, e.flight, nil
			}
			if err := r.failed(ctx, e); err != nil {
				return nil, nil, err
			}
		}
	}
}

// land calls back what is flying, and waits until it is down.
func (r *race) land(cancel context.CancelFunc) {
	cancel()
	for len(r.flying) > 0 {
		e := <-r.events
		if !e.landed {
			continue
		}
		r.flying = slices.DeleteFunc(r.flying, func(f *flight) bool { return f == e.flight })
		if e.conn != nil {
			_ = e.conn.Close() // nobody has heard of it
		}
	}
	r.running.Wait()
}

// begin begins the next attempt, unless it has to wait for another to land.
func (r *race) begin(ctx context.Context) {
	if len(r.queue) == 0 {
		return
	}
	most := mostFlying
	if r.localPort() != 0 {
		most = 1
	}
	if r.due = len(r.flying) >= most; r.due {
		r.flying[0].cancel()
		return
	}
	target := r.queue[0]
	r.queue = r.queue[1:]
	if !r.NoKnock {
		r.queue = append(r.queue, target)
	}
	r.begun++
	r.tries[target]++
	ctx, cancel := context.WithCancel(ctx)
	f := &flight{Attempt: Attempt{Number: r.begun, Target: target, Start: time.Now()}, cancel: cancel}
	r.flying = append(r.flying, f)
	r.running.Go(func() { r.fly(ctx, f) })
	if len(r.queue) > 0 {
		r.timer.Reset(r.delay())
	}
}

// delay is how long the next attempt waits for the ones before it.
func (r *race) delay() time.Duration {
	attempts := r.tries[r.queue[0]]
	if attempts == 0 {
		return nextAddress
	}
	return max(retryAfter(attempts)/time.Duration(len(r.queue)), leastRetry)
}

// fly is an attempt's goroutine.
func (r *race) fly(ctx context.Context, f *flight) {
	defer f.cancel()
	conn, step, err := r.attempt(ctx, f.Target, r.session, func(err error) {
		r.events <- event{flight: f, at: time.Now(), err: err}
	})
	r.events <- event{flight: f, at: time.Now(), landed: true, conn: conn, step: step, err: err}
}

// after is the attempt as of the event.
func (e *event) after() Attempt {
	a := e.Attempt
	a.Elapsed = e.at.Sub(a.Start)
	return a
}

func (r *race) hasKnocked(e event) {
	if e.err == nil {
		e.knocked = e.at
	}
	if !errors.Is(e.err, context.Canceled) {
		r.Trace.knocked(e.after(), e.err)
	}
}

// failed draws the conclusions from an attempt without a connection. Its error
// says that the race is over.
func (r *race) failed(ctx context.Context, e event) error {
	calledBack := errors.Is(e.err, context.Canceled)
	if !calledBack && e.step == StepConnect {
		r.Trace.connected(e.after(), e.err)
	}
	if !calledBack && (r.NoKnock || !passing(e.err)) {
		r.failures = append(r.failures, e.err)
		if e.step == StepConnect {
			r.step = StepConnect
		}
		var raw *RawSocketError
		if errors.Is(e.err, ErrOption) || errors.As(e.err, &raw) {
			return errFailed // wherever it goes to
		}
		r.queue = slices.DeleteFunc(r.queue, func(t netip.AddrPort) bool { return t == e.Target })
		for _, f := range r.flying {
			if f.Target == e.Target {
				f.cancel()
			}
		}
		r.due = r.due || len(r.queue) > 0 && r.tries[r.queue[0]] == 0
	}
	if r.due {
		r.begin(ctx)
	}
	if len(r.queue) == 0 && len(r.flying) == 0 {
		return errFailed
	}
	return nil
}

// passing reports whether an attempt that failed so says nothing about the next
// one: it was not answered in time, what answered was cut off, or the address
// that it came from was removed.
func passing(err error) bool {
	var timeout net.Error
	return isSourceGone(err) || errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, connectionReset)
}
