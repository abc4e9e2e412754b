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
	// maxAuthentications is how often a dial authenticates at the most: once, and
	// once more in case packets were lost. Each failure counts towards a ban, which
	// a gateway has after ten by default.
	maxAuthentications = 2

	// handshakeTimeout is what one authentication is given: the 3 s after which a
	// gateway ends one that failed, and the way there and back with losses.
	handshakeTimeout = auth.DefaultDeadline + 1500*time.Millisecond
)

// DialContext resolves address, knocks, connects and authenticates, as far as
// the options say; the package's comment has how. network is tcp, tcp4 or tcp6.
// It ends with Timeout or ctx, and then or before then has closed whatever it
// opened but the connection that it returns. The error is a *StepError.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	run := &dial{Dialer: d, address: address, start: time.Now()}
	limited, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	targets, err := d.ResolveAll(limited, network, address)
	if err != nil {
		return nil, run.newError(StepResolve, err)
	}
	conn, failure := run.reach(limited, targets)
	if failure == nil {
		return conn, nil
	}
	return nil, failure
}

// dial is one DialContext.
type dial struct {
	*Dialer
	address string
	start   time.Time
	targets []netip.AddrPort
	// What the error tells.
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
			return nil, refused // which says more than the silence after it
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
		_ = conn.Close() // it is the handshake's error that counts
		run.targets = []netip.AddrPort{won.Target}
		refused = run.newError(StepAuthenticate, err)
		if run.authenticated == maxAuthentications || !isRetryable(err) || ctx.Err() != nil {
			return nil, refused
		}
		// Another address may have the luck, if there is one.
		targets = append(slices.DeleteFunc(slices.Clone(targets), func(t netip.AddrPort) bool { return t == won.Target }), won.Target)
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
	began := time.Now()
	a := run.authClient(won.Target, session)
	stop := run.resendKnocks(ctx, conn, won.Target, session)
	err := a.Handshake(ctx, conn)
	stop()
	run.authenticated++
	run.waited = time.Since(began)
	told := won.Attempt
	told.Elapsed = time.Since(told.Start)
	run.Trace.authenticated(told, err)
	return err
}

// authClient is d.Auth for a connection to target.
func (d *Dialer) authClient(target netip.AddrPort, session []byte) *auth.Client {
	a := d.Auth
	a.Identity, a.Port, a.SessionID, a.Now, a.Rand = d.Identity, d.port(target), session, d.Now, d.Rand
	return &a
}

// isRetryable tells whether an authentication could have failed so because
// packets were lost, and may be repeated: it never came to an answer. A wrong proof
// is one.
func isRetryable(err error) bool {
	var failure *auth.Error
	if !errors.As(err, &failure) {
		return false // there was nothing to send
	}
	switch failure.Result {
	case auth.ResultTimeout, auth.ResultClosed, auth.ResultCanceled:
		return true
	default:
		return false
	}
}

// newError is the error of a dial that ended with step.
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
