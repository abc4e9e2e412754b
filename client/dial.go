package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// maxAuthentications limits the authentications of a dial: one, and another
	// in case packets were lost. Each failure counts towards a ban, which a
	// gateway imposes after ten by default.
	maxAuthentications = 2

	// handshakeTimeout limits one authentication: the 3 s after which a gateway
	// ends one that failed, and a round trip with losses.
	handshakeTimeout = auth.DefaultDeadline + 1500*time.Millisecond
)

// DialContext resolves address, knocks, connects and authenticates, as the
// fields of d ask for; the package comment describes how. network is tcp, tcp4
// or tcp6. It returns no later than at the end of Timeout or ctx, and has then
// closed all sockets except the connection that it returns. The error is a
// [*StepError].
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	run := &dial{Dialer: d, address: address, start: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	targets, err := d.ResolveAll(ctx, network, address)
	if err != nil {
		return nil, run.newError(StepResolve, err)
	}
	conn, failure := run.reach(ctx, targets)
	if failure == nil {
		return conn, nil
	}
	return nil, failure // not a nil *StepError in an error
}

// dial is one call of DialContext.
type dial struct {
	*Dialer
	address string
	start   time.Time

	// For the error.
	targets                 []netip.AddrPort
	attempts, authenticated int
	waited                  time.Duration // for the end of the last authentication
}

// reach knocks, connects and authenticates at any of targets.
func (run *dial) reach(ctx context.Context, targets []netip.AddrPort) (net.Conn, *StepError) {
	run.targets = targets
	run.Trace.resolved(slices.Clone(targets))
	var refused *StepError
	for {
		session, err := run.sessionID()
		if err != nil {
			return nil, run.newError(StepKnock, err)
		}

		r := run.newRace(targets, session, run.attempts)
		conn, won, err := r.run(ctx)
		run.attempts = r.started
		switch {
		case err == nil:
		case refused != nil:
			return nil, refused // it says more than the silence after it
		case errors.Is(err, errFailed):
			return nil, run.newError(r.furthest, join(r.failures...))
		default:
			return nil, run.newError(StepConnect, join(append([]error{err}, r.failures...)...))
		}

		if run.NoAuth {
			return conn, nil
		}
		if err = run.authenticate(ctx, conn, won, session); err == nil {
			return conn, nil
		}
		_ = conn.Close() // the error of the handshake is the one to report
		run.targets = []netip.AddrPort{won.Target}
		refused = run.newError(StepAuthenticate, err)
		if run.authenticated == maxAuthentications || !isRetryable(err) || ctx.Err() != nil {
			return nil, refused
		}

		// Try the other addresses first, if there are any.
		others := slices.DeleteFunc(slices.Clone(targets), func(t netip.AddrPort) bool { return t == won.Target })
		targets = append(others, won.Target)
	}
}

// authenticate authenticates the connection of an attempt.
func (run *dial) authenticate(ctx context.Context, conn net.Conn, won *attempt, session []byte) error {
	if rest := run.KnockDelay - time.Since(won.knocked); !won.knocked.IsZero() && rest > 0 {
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}
	if run.NoKnock && run.SessionID == nil {
		session = nil
	}

	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	start := time.Now()
	a := run.authClient(won.Target, session)
	stop := run.resendKnocks(ctx, conn, won.Target, session)
	err := a.Handshake(ctx, conn)
	stop()

	run.authenticated++
	run.waited = time.Since(start)
	result := won.Attempt
	result.Elapsed = time.Since(result.Start)
	run.Trace.authenticated(result, err)
	return err
}

// authClient returns d.Auth for a connection to target.
func (d *Dialer) authClient(target netip.AddrPort, session []byte) *auth.Client {
	a := d.Auth
	a.Identity, a.Port, a.SessionID, a.Now, a.Rand = d.Identity, d.port(target), session, d.Now, d.Rand
	return &a
}

// isRetryable reports whether lost packets can explain the failure of an
// authentication: no answer came. A wrong proof is an answer.
func isRetryable(err error) bool {
	var failure *auth.Error
	if !errors.As(err, &failure) {
		return false // nothing was sent
	}
	switch failure.Result {
	case auth.ResultTimeout, auth.ResultClosed, auth.ResultCanceled:
		return true
	default:
		return false
	}
}

// newError returns the error of a dial that failed at step.
func (run *dial) newError(step string, err error) *StepError {
	e := &StepError{
		Step: step, Err: err, Address: run.address, Targets: run.targets,
		Attempts: run.attempts, Authentications: run.authenticated, Elapsed: time.Since(run.start),
	}
	e.waited, e.noAuth, e.clock = run.waited, run.NoAuth, run.now()
	if isUnreachable(err) {
		e.missing = missingFamily(e.Targets, net.InterfaceAddrs)
	}
	if !run.NoKnock {
		if e.method = run.Method; e.method == "" {
			e.method = protocol.MethodUDP
		}
		e.knockPort = run.knockPort()
	}
	return e
}
