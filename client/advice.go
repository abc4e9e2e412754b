package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// adviceResolve is the advice if a name could not be resolved.
const adviceResolve = "check the address, and this host's name resolution"

// Error returns the step, what happened and the advice, in one line.
func (e *StepError) Error() string {
	message, advice := e.describe()
	if advice == "" {
		return e.Step + ": " + message
	}
	return e.Step + ": " + message + "; " + advice
}

// Advice returns what to check, the likely causes first. It is empty where the
// cause itself says what to do.
func (e *StepError) Advice() string {
	_, advice := e.describe()
	return advice
}

// describe returns what happened, and the advice.
func (e *StepError) describe() (message, advice string) {
	switch e.Step {
	case StepResolve:
		if isTimeout(e.Err) {
			return fmt.Sprintf("%s: no name server answered in %s", e.where(), formatDuration(e.Elapsed)), adviceResolve
		}
		return e.where() + ": " + e.Err.Error(), adviceResolve
	case StepKnock:
		if !e.selfExplanatory() {
			advice = e.unreachable("nothing could be sent: ")
		}
		return e.where() + ": " + e.Err.Error(), advice
	case StepConnect:
		return e.describeConnect()
	case StepAuthenticate:
		return e.describeAuthenticate()
	default:
		return e.Err.Error(), ""
	}
}

// selfExplanatory reports whether the cause itself says what to do.
func (e *StepError) selfExplanatory() bool {
	var raw *RawSocketError
	return errors.Is(e.Err, ErrOption) || errors.As(e.Err, &raw) || errors.Is(e.Err, context.Canceled)
}

// describeConnect is describe for StepConnect.
func (e *StepError) describeConnect() (message, advice string) {
	switch {
	case errors.Is(e.Err, context.Canceled):
		return fmt.Sprintf("%s: canceled after %s in %s", e.where(), e.efforts(), formatDuration(e.Elapsed)), ""

	case e.Timeout() && e.method == "":
		message = fmt.Sprintf("%s did not answer in %s", e.where(), formatDuration(e.Elapsed))
		advice = "check the address, that the gateway runs and packets for the address reach it, and whether the service requires a knock"
	case e.Timeout():
		message = fmt.Sprintf("%s did not answer %s in %s", e.where(), e.efforts(), formatDuration(e.Elapsed))
		advice = e.adviceSilence()

	case e.refused() && e.method != "" && e.noAuth:
		return e.where() + " refused the connection after the knock: the gateway admitted it, and the service behind the gateway refused it",
			"check that the service runs"
	case e.refused() && e.method != "":
		return e.where() + " refused the connection: nothing is hidden there, or the service behind the gateway is down",
			"check the address, that the gateway runs, and the service"
	case e.refused():
		return e.where() + " refused the connection", "check the address, and that the service runs"
	default:
		return e.where() + ": " + e.Err.Error(), e.unreachable("")
	}

	if others := e.otherCauses(); others != "" {
		message += " (" + others + ")"
	}
	return message, advice
}

// adviceSilence is the advice if nothing followed a knock: the causes in the
// order of likelihood, or a clock that is certainly wrong.
func (e *StepError) adviceSilence() string {
	if wrong := e.wrongClock(); wrong != "" {
		return wrong
	}
	checks := []string{
		"that the gateway runs, and that packets for this address reach it and are forwarded (knockgw doctor on the gateway)",
		e.checkNetwork(),
		"the client id and secret, that the client may use this service now, and " + e.checkSettings() +
			" (see knockgw clients and knockgw trace on the gateway)",
		compareClocks,
	}
	var b strings.Builder
	b.WriteString("check, in this order: ")
	for i, check := range checks {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d) %s", i+1, check)
	}
	return b.String()
}

// checkNetwork names what a network on the path may do to knock and connection.
func (e *StepError) checkNetwork() string {
	switch protocol.MethodFamily(e.method) {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
		return "that no network on the path changes or drops SYNs, and that this host keeps its address between knock and connection " +
			"(method udp-v2 is robust against both)"
	default:
		return fmt.Sprintf("that no network on the path drops UDP to port %d, or sends UDP and TCP from two addresses, as a carrier's NAT may "+
			"(method tcp-syn, or a service in mode auth, works there)", e.knockPort)
	}
}

// checkSettings names what both sides must agree on about knocks.
func (e *StepError) checkSettings() string {
	switch protocol.MethodFamily(e.method) {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
		return "that it accepts " + e.method + " knocks with these slots"
	case protocol.MethodUDPv2:
		return "the gateway's name and slots"
	default:
		return "that it accepts " + e.method + " knocks"
	}
}

// compareClocks says how to find out whether a clock is wrong.
const compareClocks = "the clocks: compare date -u here and on the gateway (knockgw clients there shows the difference)"

// wrongClock returns the error of CheckClock, or "".
func (e *StepError) wrongClock() string {
	if e.clock.IsZero() {
		return ""
	}
	if err := CheckClock(e.clock); err != nil {
		return err.Error()
	}
	return ""
}

// describeAuthenticate is describe for StepAuthenticate.
func (e *StepError) describeAuthenticate() (message, advice string) {
	advice = "check the client's secret, that the client may use this service now, the service's mode and auth settings " +
		"(protocol, hint, buckets), and " + compareClocks
	if wrong := e.wrongClock(); wrong != "" {
		advice = wrong
	}
	times := ""
	if e.Authentications > 1 {
		times = fmt.Sprintf(", %d times", e.Authentications)
	}

	var failure *auth.Error
	switch known := errors.As(e.Err, &failure); {
	case known && failure.Result == auth.ResultProof:
		return e.where() + " sent a wrong proof: the host that answers there does not know the client's secret",
			"check the address, and that client and gateway have the same secret; the dial was not retried"
	case errors.Is(e.Err, context.Canceled):
		return e.where() + ": canceled", ""
	case known && failure.Result == auth.ResultClosed && e.waited < auth.DefaultDeadline/2:
		// A gateway that refuses waits for its deadline, so that the time does
		// not reveal the reason.
		return e.where() + " closed the connection without a proof" + times +
			": the service behind the gateway is down, or the gateway refused the authentication", "check the service; " + advice
	case known && failure.Result == auth.ResultClosed:
		return e.where() + " closed the connection without a proof" + times +
			": the gateway refused the authentication, or the service behind it is down", advice
	case e.Timeout():
		return fmt.Sprintf("%s did not answer the authentication in %s%s", e.where(), formatDuration(e.waited), times), advice
	default:
		return e.where() + ": " + e.Err.Error(), advice
	}
}

// unreachable is the advice if this host could not send.
func (e *StepError) unreachable(prefix string) string {
	if e.missing == "" {
		return prefix + "check this host's address, routes and firewall"
	}
	other := "IPv6"
	if e.missing == other {
		other = "IPv4"
	}
	return fmt.Sprintf("%sthe service has an %s address, and this host has none; use an %s address or a name that has one, "+
		"or a network with %s (addresses are not translated for NAT64)", prefix, e.missing, other, e.missing)
}

// isUnreachable reports whether the system has no route to an address, or no
// source address for it.
func isUnreachable(err error) bool {
	return errors.Is(err, networkUnreachable) || errors.Is(err, addressUnavailable)
}

// missingFamily returns the address family of all targets, if they share one and
// this host has no global address of it; else "".
func missingFamily(targets []netip.AddrPort, addresses func() ([]net.Addr, error)) string {
	if len(targets) == 0 {
		return ""
	}
	is4 := targets[0].Addr().Is4()
	if slices.ContainsFunc(targets, func(t netip.AddrPort) bool { return t.Addr().Is4() != is4 }) {
		return ""
	}
	all, err := addresses()
	if err != nil {
		return ""
	}
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if addr := prefix.Addr().Unmap(); err == nil && addr.Is4() == is4 && addr.IsGlobalUnicast() {
			return ""
		}
	}
	if is4 {
		return "IPv4"
	}
	return "IPv6"
}
