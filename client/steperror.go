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

// StepError reports which step of reaching a service failed, where, and after
// how many attempts. It unwraps to the causes: errors.Is and errors.As find
// context.DeadlineExceeded if nothing answered in time, syscall.ECONNREFUSED,
// *auth.Error, [ErrOption] and *[RawSocketError]. It implements net.Error.
type StepError struct {
	// Step is one of the constants.
	Step string
	// Err is the cause, or several causes.
	Err error
	// Address is what was dialled.
	Address string
	// Targets are what Address resolved to, in the order of the first attempts;
	// for an authentication, the one that failed it.
	Targets []netip.AddrPort
	// Attempts is the number of attempts, each with a knock unless NoKnock is
	// set.
	Attempts int
	// Authentications is the number of connections that were authenticated.
	Authentications int
	// Elapsed is the time from the start of the dial to the failure.
	Elapsed time.Duration

	method    string // "" without a knock
	knockPort uint16
	noAuth    bool
	waited    time.Duration // for the last authentication to fail
	clock     time.Time     // this host's at the failure; zero: unknown
	missing   string        // the address family that this host lacks, if that is the cause
}

// maxTargets is how many addresses an error lists.
const maxTargets = 4

// where returns the address, and what it resolved to.
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
		if i == maxTargets {
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

// efforts returns how many knocks were sent, or connections attempted.
func (e *StepError) efforts() string {
	noun := "knock"
	if e.method == "" {
		noun = "attempt"
	}
	if e.Attempts == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", e.Attempts, noun)
}

// otherCauses returns the causes that are not timeouts.
func (e *StepError) otherCauses() string {
	var all causes
	if !errors.As(e.Err, &all) {
		return ""
	}
	var rest causes
	for _, err := range all {
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

// Timeout reports whether the time ran out before an answer came. (net.Error)
func (e *StepError) Timeout() bool { return isTimeout(e.Err) }

// Temporary is Timeout: every other failure is permanent. (net.Error)
func (e *StepError) Temporary() bool { return e.Timeout() }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// causes are several errors, printed on one line.
type causes []error

func (c causes) Error() string {
	var texts []string
	for _, err := range c {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (c causes) Unwrap() []error { return c }

// join returns one error for several.
func join(errs ...error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return causes(errs)
}

// formatDuration rounds t for a sentence: 1.2 s, 41 s, 1h0m3s.
func formatDuration(t time.Duration) string {
	const tenths, seconds = 10 * time.Second, 2 * time.Minute // below which those are printed
	switch {
	case t < tenths:
		return fmt.Sprintf("%.2g s", t.Round(time.Second/10).Seconds())
	case t < seconds:
		return fmt.Sprintf("%.0f s", t.Seconds())
	default:
		return t.Round(time.Second).String()
	}
}
