package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// The steps of reaching a service, in their order.
const (
	StepResolve      = "resolve"
	StepKnock        = "knock"
	StepConnect      = "connect"
	StepAuthenticate = "authenticate"
)

// A StepError says which step of reaching a service failed, where, and after what
// efforts. It unwraps to the causes: errors.Is and errors.As find
// context.DeadlineExceeded where nobody answered in time, syscall.ECONNREFUSED,
// *auth.Error, ErrOption, *RawSocketError. It is a net.Error itself.
type StepError struct {
	Step string // one of the constants
	Err  error  // the cause, or several of them
	// Address is what was dialled, and Targets are what it resolved to, in the order
	// of the first attempts; for an authentication, the one that failed it.
	Address string
	Targets []netip.AddrPort
	// Attempts is how many were made, each with a knock if any, Authentications how
	// many connections were authenticated.
	Attempts, Authentications int
	Took                      time.Duration

	method    string // "" without a knock
	knockPort uint16
	noAuth    bool
	waited    time.Duration // for the last authentication to fail
	clock     time.Time     // this host's, when it failed; zero: not looked at
	missing   string        // the address family that this host has no address of, if that is why
}

// mostTargets is how many addresses an error lists.
const mostTargets = 4

// where is the address, and what it resolved to.
func (e *StepError) where() string {
	if e.Address == "" {
		return "the service"
	}
	if len(e.Targets) == 0 || len(e.Targets) == 1 && e.Targets[0].String() == e.Address {
		return e.Address
	}
	var b strings.Builder
	b.WriteString(e.Address + " (")
	for i, t := range e.Targets {
		if i == mostTargets {
			fmt.Fprintf(&b, " and %d more", len(e.Targets)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(t.String())
	}
	return b.String() + ")"
}

// efforts is how many knocks were sent, or connections tried.
func (e *StepError) efforts() string {
	what := "knock"
	if e.method == "" {
		what = "attempt"
	}
	if e.Attempts == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", e.Attempts, what)
}

// besides is what else went wrong than that nobody answered.
func (e *StepError) besides() string {
	var several causes
	if !errors.As(e.Err, &several) {
		return ""
	}
	var rest causes
	for _, err := range several {
		if !isTimeout(err) {
			rest = append(rest, err)
		}
	}
	if len(rest) == 0 {
		return ""
	}
	return rest.Error()
}

func (e *StepError) refused() bool { return errors.Is(e.Err, connectionRefused) }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Timeout tells whether time ran out before anybody answered. (net.Error.)
func (e *StepError) Timeout() bool { return isTimeout(e.Err) }

// Temporary is Timeout: what else fails, fails again. (net.Error.)
func (e *StepError) Temporary() bool { return e.Timeout() }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// causes are several errors in one line.
type causes []error

func (c causes) Error() string {
	var texts []string
	for _, err := range c {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (c causes) Unwrap() []error { return c }

// join is one error of several.
func join(errs ...error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return causes(errs)
}

// spoken is a time as one would say it: 1.2 s, 41 s, 1h0m3s.
func spoken(t time.Duration) string {
	const tenths, seconds = 10 * time.Second, 2 * time.Minute // up to which these are meant
	switch {
	case t < tenths:
		return fmt.Sprintf("%.2g s", t.Round(time.Second/10).Seconds())
	case t < seconds:
		return fmt.Sprintf("%.0f s", t.Seconds())
	default:
		return t.Round(time.Second).String()
	}
}
