package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
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
	// ClockOffset is how far this host's clock is ahead of the gateway's, and
	// negative when it is behind; 0 where that is not known, or not the cause.
	// (Dialer.FindClock.)
	ClockOffset time.Duration

	method    string // "" without a knock
	knockPort uint16
	noAuth    bool
	waited    time.Duration // for the last authentication to fail
}

// mostTargets is how many addresses an error lists.
const mostTargets = 4

// Error names the step, what happened, and what to check, in one line.
func (e *StepError) Error() string {
	happened, check := e.Err.Error(), ""
	switch e.Step {
	case StepResolve:
		happened, check = e.where()+": "+happened, "check the address, and this host's name resolution"
	case StepKnock:
		happened = e.where() + ": " + happened
		if !e.explained() {
			check = "nothing could be sent: check this host's address, routes and firewall"
		}
	case StepConnect:
		happened, check = e.connect()
	case StepAuthenticate:
		happened, check = e.authenticate()
	}
	if check == "" {
		return e.Step + ": " + happened
	}
	return e.Step + ": " + happened + "; " + check
}

// explained tells whether the cause says what to do by itself.
func (e *StepError) explained() bool {
	var raw *RawSocketError
	return errors.Is(e.Err, ErrOption) || errors.As(e.Err, &raw) || errors.Is(e.Err, context.Canceled)
}

func (e *StepError) connect() (happened, check string) {
	switch {
	case errors.Is(e.Err, context.Canceled):
		return fmt.Sprintf("gave up %s after %s in %s: %v", e.where(), e.efforts(), spoken(e.Took), e.Err), ""
	case e.Timeout() && e.method == "":
		happened = fmt.Sprintf("%s did not answer in %s", e.where(), spoken(e.Took))
		check = "check the address, and whether the service wants a knock"
	case e.Timeout():
		happened = fmt.Sprintf("%s did not answer %s in %s", e.where(), e.efforts(), spoken(e.Took))
		check = "check the client id and secret, that the client may use this service now, " + e.knockSettings() +
			"and this host's clock (knockgw ping tells how far it is off)"
		if e.ClockOffset != 0 {
			check = offsetText(e.ClockOffset) + ": set it right"
		}
	case e.refused() && e.method != "" && e.noAuth:
		return e.where() + " refused the connection after the knock: the gateway admitted us, and the service behind it refused",
			"check that the service runs"
	case e.refused() && e.method != "":
		return e.where() + " refused the connection: nothing is hidden there, or the service behind the gateway is down",
			"check the address, that the gateway runs, and the service"
	case e.refused():
		return e.where() + " refused the connection", "check the address, and that the service runs"
	default:
		return e.where() + ": " + e.Err.Error(), "check this host's address, routes and firewall"
	}
	if others := e.besides(); others != "" {
		happened += " (" + others + ")"
	}
	return happened, check
}

func (e *StepError) authenticate() (happened, check string) {
	check = "check the client's secret, the service's mode and auth settings (protocol, hint, buckets)"
	if e.ClockOffset != 0 {
		check = offsetText(e.ClockOffset) + ": set it right"
	} else {
		check += " and this host's clock"
	}
	times := ""
	if e.Authentications > 1 {
		times = fmt.Sprintf(", %d times", e.Authentications)
	}
	var failure *auth.Error
	switch known := errors.As(e.Err, &failure); {
	case known && failure.Result == auth.ResultProof:
		return e.where() + " sent a wrong proof: who answers there does not know the client's secret",
			"check the address, and that client and gateway have the same secret; it was not tried again"
	case errors.Is(e.Err, context.Canceled):
		return "gave up " + e.where() + ": " + e.Err.Error(), ""
	case known && failure.Result == auth.ResultClosed && e.waited < auth.DefaultDeadline/2:
		// A gateway that refuses takes its time, so that nobody learns why.
		return e.where() + " ended the connection without a proof" + times +
			": the service behind the gateway is down, or the gateway refused the authentication", "check the service; " + check
	case known && failure.Result == auth.ResultClosed:
		return e.where() + " ended the connection without a proof" + times +
			": the gateway refused the authentication, or the service behind it is down", check
	case e.Timeout():
		return fmt.Sprintf("%s did not answer the authentication in %s%s", e.where(), spoken(e.waited), times), check
	default:
		return e.where() + ": " + e.Err.Error(), check
	}
}

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

// knockSettings is what both sides must agree on about knocks.
func (e *StepError) knockSettings() string {
	switch protocol.MethodFamily(e.method) {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
		return "that it takes " + e.method + " knocks with these slots, "
	case protocol.MethodUDPv2:
		return fmt.Sprintf("the gateway's name, slots and knock port (%d), ", e.knockPort)
	default:
		return fmt.Sprintf("the knock port (%d), ", e.knockPort)
	}
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

// silent tells whether nobody has said anything, which a wrong clock could explain.
func (e *StepError) silent() bool {
	return e.method != "" && e.Timeout() && (e.Step == StepConnect || e.Step == StepAuthenticate)
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

// offsetText says how a clock is wrong.
func offsetText(offset time.Duration) string {
	way := "ahead of"
	if offset < 0 {
		offset, way = -offset, "behind"
	}
	return fmt.Sprintf("this host's clock is %s %s the gateway's", spoken(offset), way)
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
