package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// clockRange is how far off a clock is looked for, in both directions.
	clockRange = time.Hour

	// clockHours is how many whole hours off it is looked for beyond that, where a
	// clock was set to the wrong time zone: they go from -12 to +14.
	clockHours = 14

	// clockStep is how far the shifts of two first probes are from one another, in
	// windows: a bit less than the two that one probe sees.
	clockStep = 1.9

	// clockNear is how many steps to both sides are tried before whole hours are
	// too, by turns.
	clockNear = 2

	// clockPrecision is when the edges of what is taken are known well enough.
	clockPrecision = time.Second

	// clockSlack is how far from where it should be an edge is looked for first.
	clockSlack = time.Second

	// widestClock is how many windows are gone through for an edge, before it is
	// clear that the gate does not look at the time.
	widestClock = 6

	// firstAnswer is how long a probe waits while no round trip is known: longer than
	// one to the other side of the world, and shorter than the second after which the
	// kernel would repeat the SYN.
	firstAnswer = 700 * time.Millisecond

	// An answer that took no longer than a round trip may take answerTrips of them
	// the next time, and leastAnswer if that is more: a gateway looks at a knock
	// within milliseconds, and dials a service in mode knock first.
	answerTrips = 4
	leastAnswer = 150 * time.Millisecond
)

// ErrClockUnknown says that no shift of the clock made the gate answer.
var ErrClockUnknown = errors.New("the gate takes no knock of any clock")

// ClockOffset finds out how far this host's clock is ahead of the gateway's, to
// about a second, from nothing but the gate: it takes a knock if its stamp is
// within a window, of 30 s by default, of the gateway's time. So ClockOffset knocks
// with stamps of other times, further and further from this host's, until one
// connection is answered, and then finds where those end that are.
//
//	              <-- window --><-- window -->
//	stamp   . . x |  o  o       o       o  o | x . . . . . . . x . . .
//	                            |                              |
//	                    the gateway's clock                   ours
//
// A stamp that is not taken costs the gateway a datagram and no one's reputation; a
// connection that is answered is authenticated with a stamp that was taken, so that
// the grant is used up, and closed at once: the service behind sees some twenty of
// them. If an authentication fails, the search ends. It takes seconds where the
// clock is off by some minutes, and up to two minutes where nobody answers at all,
// ErrClockUnknown: give ctx a deadline. An offset that comes with an error is what
// was known by then, to about a window.
//
// It is for services that want a UDP knock (else errors.ErrUnsupported), and that
// have grants for one connection, as they do by default. Of several addresses, it
// asks the first of each family, by turns; a literal is quicker. It must not run
// beside other dials to the service, for whose grants it would take its own.
func (d *Dialer) ClockOffset(ctx context.Context, network, address string) (time.Duration, error) {
	if err := d.canAskTheTime(); err != nil {
		return 0, err
	}
	targets, err := d.ResolveAll(ctx, network, address)
	if err != nil {
		return 0, err
	}
	return d.newClockSearch(targets).offset(ctx)
}

func (d *Dialer) canAskTheTime() error {
	method, err := protocol.ParseMethod(d.Method)
	switch {
	case d.NoKnock:
		return fmt.Errorf("ask a gate for the time: %w without a knock", errors.ErrUnsupported)
	case d.Method == "":
		return nil
	case err != nil:
		return fmt.Errorf("%w: method %q: %w", ErrOption, d.Method, err)
	}
	switch method {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodTCPAuth:
		return fmt.Errorf("ask a gate for the time: %w by %s, whose knocks have no stamp; use a udp method",
			errors.ErrUnsupported, method)
	}
	return nil
}

func (d *Dialer) clockWindow() time.Duration {
	if d.ClockWindow > 0 {
		return d.ClockWindow
	}
	return auth.DefaultWindow
}

// newClockSearch is a search that asks at the first address of each family, until
// one has answered.
func (d *Dialer) newClockSearch(targets []netip.AddrPort) *clockSearch {
	search := &clockSearch{Dialer: d, targets: targets[:1], window: d.clockWindow(), wait: firstAnswer}
	if len(targets) > 1 && targets[0].Addr().Is4() != targets[1].Addr().Is4() { // they go by turns
		search.targets = targets[:2]
	}
	return search
}

// clockSearch looks for the shifts of this host's clock with which knocks are taken.
// They are one interval, two windows wide, about minus the offset.
type clockSearch struct {
	*Dialer
	targets []netip.AddrPort // once one has answered, that one
	window  time.Duration
	wait    time.Duration // for an answer
	heard   bool          // there was one, and wait is learnt from it
	taken   time.Duration // the first shift that was taken, if heard
	width   time.Duration // of the interval, once it is found
	probes  int
}

func (c *clockSearch) offset(ctx context.Context) (time.Duration, error) {
	offset, err := c.find(ctx)
	switch {
	case err == nil && offset.Abs() < c.window:
		_, err = c.probe(ctx, c.targets[0], 0) // the same, and uses up what it opens
	case err == nil, errors.Is(err, ErrClockUnknown), ctx.Err() != nil:
		c.endWithTheTruth(ctx)
	}
	return offset, err
}

// endWithTheTruth knocks once more, by this host's clock as it is, and does not wait
// for what comes of it: the gateway tells its operator the difference to the stamp
// of the last knock that it refused, and by those of the search it would be that of
// another clock. ctx may be over.
func (c *clockSearch) endWithTheTruth(ctx context.Context) {
	session, err := c.NewSession()
	if err != nil || len(c.targets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), firstAnswer)
	defer cancel()
	if conn, _, err := c.attempt(ctx, c.targets[0], session, func(error) { cancel() }); err == nil {
		_ = conn.Close()
	}
}

// find is offset, and leaves the gateway with the stamps of other clocks.
func (c *clockSearch) find(ctx context.Context) (time.Duration, error) {
	within, err := c.first(ctx)
	if err != nil {
		return -within, err
	}
	low, err := c.edge(ctx, within, -1, 0)
	if err != nil {
		return -within, err
	}
	high, err := c.edge(ctx, within, +1, low+2*c.window)
	if err != nil {
		return -within, err
	}
	c.width = high - low
	return -(low + (high-low)/2).Round(clockPrecision / 10), nil
}

// first is the first shift that is taken. An error with one is of an
// authentication.
func (c *clockSearch) first(ctx context.Context) (time.Duration, error) {
	step := time.Duration(clockStep * float64(c.window))
	var failed error // at the address that failed last
	for _, shift := range clockShifts(step) {
		for _, target := range slices.Clone(c.targets) {
			taken, err := c.probe(ctx, target, shift)
			switch {
			case taken:
				c.targets = []netip.AddrPort{target}
				return shift, err
			case ctx.Err() != nil:
				return 0, fmt.Errorf("%w that was tried, %d in all: %w", ErrClockUnknown, c.probes, ctx.Err())
			case err != nil:
				failed = err
				c.targets = slices.DeleteFunc(slices.Clone(c.targets), func(t netip.AddrPort) bool { return t == target })
			}
		}
		if len(c.targets) == 0 {
			return 0, failed
		}
	}
	return 0, fmt.Errorf("%w within %v, nor whole hours off: the clock is not the reason, or not alone",
		ErrClockUnknown, clockRange)
}

// clockShifts are the shifts to try, the likely ones first.
func clockShifts(step time.Duration) []time.Duration {
	shifts := []time.Duration{0}
	ring := func(shift time.Duration) { shifts = append(shifts, shift, -shift) }
	near, hour := 1, 1
	for time.Duration(near)*step <= clockRange || hour <= clockHours {
		if time.Duration(near)*step <= clockRange {
			ring(time.Duration(near) * step)
		}
		if near > clockNear && hour <= clockHours {
			ring(time.Duration(hour) * time.Hour)
			hour++
		}
		near++
	}
	return shifts
}

// edge is the last shift that is taken, from within on in one direction (+1 or -1).
// It is about guess, unless that is 0.
func (c *clockSearch) edge(ctx context.Context, within, direction, guess time.Duration) (time.Duration, error) {
	in, out := within, within
	try := func(shift time.Duration) error {
		taken, err := c.confirm(ctx, shift)
		if taken {
			in = shift
		} else {
			out = shift
		}
		return err
	}
	if guess != 0 {
		for _, shift := range []time.Duration{guess - direction*clockSlack, guess + direction*clockSlack} {
			if (shift-in)*direction <= 0 {
				continue
			}
			if err := try(shift); err != nil {
				return in, err
			}
			if out != within {
				break
			}
		}
	}
	for step := 1; out == within; step++ { // nothing beyond is known yet
		if step > widestClock {
			return in, fmt.Errorf("ask a gate for the time: %w where every knock is taken, whatever its stamp, or one knock is good for several connections",
				errors.ErrUnsupported)
		}
		if err := try(in + direction*2*c.window); err != nil {
			return in, err
		}
	}
	for (out - in).Abs() > clockPrecision {
		if err := try(in + (out-in)/2); err != nil {
			return in, err
		}
	}
	return in + (out-in)/2, nil
}

// confirm asks twice before it takes silence for an answer: there were others, and
// a packet may have been lost.
func (c *clockSearch) confirm(ctx context.Context, shift time.Duration) (bool, error) {
	taken, err := c.probe(ctx, c.targets[0], shift)
	if taken || err != nil {
		return taken, err
	}
	return c.probe(ctx, c.targets[0], shift)
}

// probe tells whether target takes a knock with the clock shifted so.
func (c *clockSearch) probe(ctx context.Context, target netip.AddrPort, shift time.Duration) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	c.probes++
	shifted := *c.Dialer
	shifted.Now = func() time.Time { return c.now().Add(shift) }
	session, err := c.NewSession()
	if err != nil {
		return false, err
	}
	waiting, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	var knocked time.Time
	conn, _, err := shifted.attempt(waiting, target, session, func(error) { knocked = time.Now() })
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return false, ctx.Err()
	case passing(err):
		return false, nil
	default:
		return false, err
	}
	if !c.heard {
		c.wait = min(max(answerTrips*time.Since(knocked), leastAnswer), firstAnswer)
		c.heard, c.taken = true, shift
	}
	if c.NoAuth {
		return true, conn.Close()
	}
	// Not by the stamp of a knock that was just not too old: it is a little later.
	shifted.Now = func() time.Time { return c.now().Add(c.taken) }
	ending, cancelEnding := context.WithTimeout(ctx, handshakeTime)
	defer cancelEnding()
	err = shifted.authentication(target, session).Handshake(ending, conn)
	if closing := conn.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return true, fmt.Errorf("the gate let in a clock shifted by %v, and refused its authentication: %w", shift, err)
	}
	return true, nil
}
