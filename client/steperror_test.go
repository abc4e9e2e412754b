package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
)

func TestAStepErrorSaysWhatToCheck(t *testing.T) {
	one, refused := []netip.AddrPort{second4}, error(syscall.ECONNREFUSED)
	if connectionRefused != syscall.ECONNREFUSED {
		refused = connectionRefused
	}
	for _, c := range []struct {
		name string
		err  StepError
		want string
	}{
		{
			"no name", StepError{Step: StepResolve, Address: "ssh.example:22", Err: &net.DNSError{Err: "no such host", Name: "ssh.example"}},
			"resolve: ssh.example:22: lookup ssh.example: no such host; check the address, and this host's name resolution",
		},
		{
			"no route for a knock", StepError{Step: StepKnock, Address: "10.77.0.1:22", Targets: one, Err: syscall.ENETUNREACH},
			"knock: 10.77.0.1:22: " + syscall.ENETUNREACH.Error() + "; nothing could be sent: check this host's address, routes and firewall",
		},
		{
			"silence", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Attempts: 9, Took: 15 * time.Second,
				Err: context.DeadlineExceeded, method: "udp", knockPort: 62201,
			},
			"connect: 10.77.0.1:22 did not answer 9 knocks in 15 s; check the client id and secret, that the client may use this service now, the knock port (62201), and this host's clock (knockgw ping tells how far it is off)",
		},
		{
			"silence of several", StepError{
				Step: StepConnect, Address: "ssh.example:22", Targets: []netip.AddrPort{first6, second4}, Attempts: 1, Took: 250 * time.Millisecond,
				Err: causes{context.DeadlineExceeded, syscall.ENETUNREACH}, method: "tcp-syn",
			},
			"connect: ssh.example:22 ([fd77::1]:22, 10.77.0.1:22) did not answer 1 knock in 0.3 s (" + syscall.ENETUNREACH.Error() + "); check the client id and secret, that the client may use this service now, that it takes tcp-syn knocks with these slots, and this host's clock (knockgw ping tells how far it is off)",
		},
		{
			"a wrong clock", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Attempts: 9, Took: 15 * time.Second,
				Err: context.DeadlineExceeded, ClockOffset: -41 * time.Second, method: "udp",
			},
			"connect: 10.77.0.1:22 did not answer 9 knocks in 15 s; this host's clock is 41 s behind the gateway's: set it right",
		},
		{
			"refused behind the gateway", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Err: refused, method: "udp", noAuth: true,
			},
			"connect: 10.77.0.1:22 refused the connection after the knock: the gateway admitted us, and the service behind it refused; check that the service runs",
		},
		{
			"refused without a knock", StepError{Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Err: refused},
			"connect: 10.77.0.1:22 refused the connection; check the address, and that the service runs",
		},
		{
			"cancelled", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Attempts: 2, Took: 1200 * time.Millisecond,
				Err: context.Canceled, method: "udp",
			},
			"connect: gave up 10.77.0.1:22 after 2 knocks in 1.2 s: context canceled",
		},
		{
			"authentication refused", StepError{
				Step: StepAuthenticate, Address: "10.77.0.1:22", Targets: one, Authentications: 2, waited: 3 * time.Second,
				Err: &auth.Error{Result: auth.ResultClosed, Err: io.ErrUnexpectedEOF},
			},
			"authenticate: 10.77.0.1:22 ended the connection without a proof, 2 times: the gateway refused the authentication, or the service behind it is down; check the client's secret, the service's mode and auth settings (protocol, hint, buckets) and this host's clock",
		},
		{
			"cut off at once", StepError{
				Step: StepAuthenticate, Address: "10.77.0.1:22", Targets: one, Authentications: 1, waited: time.Second / 10,
				Err: &auth.Error{Result: auth.ResultClosed, Err: io.ErrUnexpectedEOF},
			},
			"authenticate: 10.77.0.1:22 ended the connection without a proof: the service behind the gateway is down, or the gateway refused the authentication; check the service; check the client's secret, the service's mode and auth settings (protocol, hint, buckets) and this host's clock",
		},
		{
			"a wrong proof", StepError{
				Step: StepAuthenticate, Address: "10.77.0.1:22", Targets: one, Authentications: 1, Err: &auth.Error{Result: auth.ResultProof},
			},
			"authenticate: 10.77.0.1:22 sent a wrong proof: who answers there does not know the client's secret; check the address, and that client and gateway have the same secret; it was not tried again",
		},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
	}
}

func TestAStepErrorIsWhatCausedIt(t *testing.T) {
	err := error(&StepError{Step: StepConnect, Err: causes{context.DeadlineExceeded, &net.OpError{Err: syscall.ECONNREFUSED}}})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("a cause is missing")
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Error("time did not run out")
	}
	err = &StepError{Step: StepConnect, Err: syscall.ECONNREFUSED}
	if !errors.As(err, &timeout) || timeout.Timeout() {
		t.Error("a refused connection is one whose time ran out")
	}
}

func TestTimesAreSaidAsOneWould(t *testing.T) {
	for _, c := range []struct {
		time time.Duration
		want string
	}{
		{200 * time.Millisecond, "0.2 s"}, {1240 * time.Millisecond, "1.2 s"}, {15 * time.Second, "15 s"},
		{9990 * time.Millisecond, "10 s"}, {41400 * time.Millisecond, "41 s"}, {3 * time.Minute, "3m0s"},
	} {
		if got := spoken(c.time); got != c.want {
			t.Errorf("%v: %s", c.time, got)
		}
	}
}
