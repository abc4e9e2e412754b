package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/protocol"
)

// clockSlack is how far a clock may be behind the time of the build before it is
// certainly wrong: the clock of the host that built it may have been ahead.
const clockSlack = 24 * time.Hour

// CheckClock returns an error if the program was built after now: then the clock
// that says now is wrong, and a gateway takes no knock of it. Hosts without a
// battery for their clock start in 1970.
func CheckClock(now time.Time) error {
	built := buildinfo.Time()
	if !now.Before(built.Add(-clockSlack)) {
		return nil
	}
	return fmt.Errorf("this host's clock is wrong: it says %s, and this program was built on %s; set it (NTP)",
		now.UTC().Format("2006-01-02 15:04 UTC"), built.UTC().Format(time.DateOnly))
}

// Error names the step, what happened, and what to check, in one line. What is
// likely comes first.
func (e *StepError) Error() string {
	happened, check := e.Err.Error(), ""
	switch e.Step {
	case StepResolve:
		happened, check = e.where()+": "+happened, "check the address, and this host's name resolution"
		if isTimeout(e.Err) {
			happened = fmt.Sprintf("%s: no name server answered in %s", e.where(), spoken(e.Took))
		}
	case StepKnock:
		happened = e.where() + ": " + happened
		if !e.explained() {
			check = e.unreachable("nothing could be sent: ")
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

// explained reports whether the cause says what to do by itself.
func (e *StepError) explained() bool {
	var raw *RawSocketError
	return errors.Is(e.Err, ErrOption) || errors.As(e.Err, &raw) || errors.Is(e.Err, context.Canceled)
}

func (e *StepError) connect() (happened, check string) {
	switch {
	case errors.Is(e.Err, context.Canceled):
		return fmt.Sprintf("gave up %s after %s in %s", e.where(), e.efforts(), spoken(e.Took)), ""
	case e.Timeout() && e.method == "":
		happened = fmt.Sprintf("%s did not answer in %s", e.where(), spoken(e.Took))
		check = "check the address, that packets for it reach the gateway and the gateway runs, and whether the service wants a knock"
	case e.Timeout():
		happened = fmt.Sprintf("%s did not answer %s in %s", e.where(), e.efforts(), spoken(e.Took))
		check = e.silence()
	case e.refused() && e.method != "" && e.noAuth:
		return e.where() + " refused the connection after the knock: the gateway admitted us, and the service behind it refused",
			"check that the service runs"
	case e.refused() && e.method != "":
		return e.where() + " refused the connection: nothing is hidden there, or the service behind the gateway is down",
			"check the address, that the gateway runs, and the service"
	case e.refused():
		return e.where() + " refused the connection", "check the address, and that the service runs"
	default:
		return e.where() + ": " + e.Err.Error(), e.unreachable("")
	}
	if others := e.besides(); others != "" {
		happened += " (" + others + ")"
	}
	return happened, check
}

// silence is what to check where a knock was followed by nothing, in the order
// of likelihood.
func (e *StepError) silence() string {
	if wrong := e.wrongClock(); wrong != "" {
		return wrong
	}
	checks := []string{
		"that the gateway runs, and that packets for this address reach it and are forwarded (knockgw doctor on the gateway)",
		e.dropped(),
		"the client id and secret, that the client may use this service now, and " + e.knockSettings() +
			" (knockgw clients and trace on the gateway tell)",
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

// dropped is what a network on the way may do to knock and connection.
func (e *StepError) dropped() string {
	switch protocol.MethodFamily(e.method) {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
		return "that no network on the way changes or drops SYNs, and that this host keeps its address between knock and connection (method udp-v2 is robust against both)"
	default:
		return fmt.Sprintf("that no network on the way drops UDP to port %d, or sends UDP and TCP from two addresses, as a carrier's NAT may "+
			"(method tcp-syn, or a service in mode auth, works there)", e.knockPort)
	}
}

// compareClocks is how to find out whether a clock is wrong.
const compareClocks = "the clocks: compare date -u here and on the gateway (knockgw clients there shows the difference)"

// wrongClock says that this host's clock cannot be right, or is empty.
func (e *StepError) wrongClock() string {
	if e.clock.IsZero() {
		return ""
	}
	if err := CheckClock(e.clock); err != nil {
		return err.Error()
	}
	return ""
}

// knockSettings is what both sides must agree on about knocks.
func (e *StepError) knockSettings() string {
	switch protocol.MethodFamily(e.method) {
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
		return "that it takes " + e.method + " knocks with these slots"
	case protocol.MethodUDPv2:
		return "the gateway's name and slots"
	default:
		return "that it takes " + e.method + " knocks"
	}
}

func (e *StepError) authenticate() (happened, check string) {
	check = "check the client's secret, that the client may use this service now, the service's mode and auth settings " +
		"(protocol, hint, buckets), and " + compareClocks
	if wrong := e.wrongClock(); wrong != "" {
		check = wrong
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
		return "gave up " + e.where(), ""
	case known && failure.Result == auth.ResultClosed && e.waited < auth.DefaultDeadline/2:
		// A gateway that refuses waits for its deadline, so that the end does not tell why.
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

// unreachable is what to check where this host could not send.
func (e *StepError) unreachable(prefix string) string {
	if e.missing == "" {
		return prefix + "check this host's address, routes and firewall"
	}
	other := "IPv6"
	if e.missing == other {
		other = "IPv4"
	}
	return fmt.Sprintf("%sthe service has an %s address, and this host has none; use an address or a name of the service in %s, "+
		"or a network with %s (an address is not translated for NAT64)", prefix, e.missing, other, e.missing)
}

// isUnreachable reports whether the system knew no way to an address.
func isUnreachable(err error) bool {
	return errors.Is(err, networkUnreachable) || errors.Is(err, addressUnavailable)
}

// missingFamily is the one family of all targets, if this host has no address in
// it that other hosts could answer; else "".
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
