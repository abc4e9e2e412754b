package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/buildinfo"
)

func TestStepErrorText(t *testing.T) {
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
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Attempts: 9, Elapsed: 15 * time.Second,
				Err: context.DeadlineExceeded, method: "udp", knockPort: 62201,
			},
			"connect: 10.77.0.1:22 did not answer 9 knocks in 15 s; check, in this order: (1) that the gateway runs, and that packets for this address reach it and are forwarded (knockgw doctor on the gateway), " +
				"(2) that no network on the path drops UDP to port 62201, or sends UDP and TCP from two addresses, as a carrier's NAT may (method tcp-syn, or a service in mode auth, works there), " +
				"(3) the client id and secret, that the client may use this service now, and that it accepts udp knocks (see knockgw clients and knockgw trace on the gateway), " +
				"(4) the clocks: compare date -u here and on the gateway (knockgw clients there shows the difference)",
		},
		{
			"silence of several", StepError{
				Step: StepConnect, Address: "ssh.example:22", Targets: []netip.AddrPort{first6, second4}, Attempts: 1, Elapsed: 250 * time.Millisecond,
				Err: causes{context.DeadlineExceeded, syscall.ENETUNREACH}, method: "tcp-syn",
			},
			"connect: ssh.example:22 ([fd77::1]:22, 10.77.0.1:22) did not answer 1 knock in 0.3 s (" + syscall.ENETUNREACH.Error() + "); check, in this order: (1) that the gateway runs, and that packets for this address reach it and are forwarded (knockgw doctor on the gateway), " +
				"(2) that no network on the path changes or drops SYNs, and that this host keeps its address between knock and connection (method udp-v2 is robust against both), " +
				"(3) the client id and secret, that the client may use this service now, and that it accepts tcp-syn knocks with these slots (see knockgw clients and knockgw trace on the gateway), " +
				"(4) the clocks: compare date -u here and on the gateway (knockgw clients there shows the difference)",
		},
		{
			"a clock of 1970", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Attempts: 9, Elapsed: 15 * time.Second,
				Err: context.DeadlineExceeded, clock: time.Unix(60, 0), method: "udp",
			},
			"connect: 10.77.0.1:22 did not answer 9 knocks in 15 s; this host's clock is wrong: it says 1970-01-01 00:01 UTC, and this program was built on " +
				buildinfo.Time().Format(time.DateOnly) + "; set it (NTP)",
		},
		{
			"no address of the family", StepError{
				Step: StepKnock, Address: "10.77.0.1:22", Targets: one, Err: syscall.ENETUNREACH, missing: "IPv4",
			},
			"knock: 10.77.0.1:22: " + syscall.ENETUNREACH.Error() + "; nothing could be sent: the service has an IPv4 address, and this host has none; " +
				"use an IPv6 address or a name that has one, or a network with IPv4 (addresses are not translated for NAT64)",
		},
		{
			"no name server", StepError{Step: StepResolve, Address: "ssh.example:22", Err: context.DeadlineExceeded, Elapsed: 10 * time.Second},
			"resolve: ssh.example:22: no name server answered in 10 s; check the address, and this host's name resolution",
		},
		{
			"refused behind the gateway", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Err: refused, method: "udp", noAuth: true,
			},
			"connect: 10.77.0.1:22 refused the connection after the knock: the gateway admitted it, and the service behind the gateway refused it; check that the service runs",
		},
		{
			"refused without a knock", StepError{Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Err: refused},
			"connect: 10.77.0.1:22 refused the connection; check the address, and that the service runs",
		},
		{
			"cancelled", StepError{
				Step: StepConnect, Address: "10.77.0.1:22", Targets: one, Attempts: 2, Elapsed: 1200 * time.Millisecond,
				Err: context.Canceled, method: "udp",
			},
			"connect: 10.77.0.1:22: canceled after 2 knocks in 1.2 s",
		},
		{
			"authentication refused", StepError{
				Step: StepAuthenticate, Address: "10.77.0.1:22", Targets: one, Authentications: 2, waited: 3 * time.Second,
				Err: &auth.Error{Result: auth.ResultClosed, Err: io.ErrUnexpectedEOF},
			},
			"authenticate: 10.77.0.1:22 closed the connection without a proof, 2 times: the gateway refused the authentication, or the service behind it is down; check the client's secret, that the client may use this service now, the service's mode and auth settings (protocol, hint, buckets), and the clocks: compare date -u here and on the gateway (knockgw clients there shows the difference)",
		},
		{
			"cut off at once", StepError{
				Step: StepAuthenticate, Address: "10.77.0.1:22", Targets: one, Authentications: 1, waited: time.Second / 10,
				Err: &auth.Error{Result: auth.ResultClosed, Err: io.ErrUnexpectedEOF},
			},
			"authenticate: 10.77.0.1:22 closed the connection without a proof: the service behind the gateway is down, or the gateway refused the authentication; check the service; check the client's secret, that the client may use this service now, the service's mode and auth settings (protocol, hint, buckets), and the clocks: compare date -u here and on the gateway (knockgw clients there shows the difference)",
		},
		{
			"a wrong proof", StepError{
				Step: StepAuthenticate, Address: "10.77.0.1:22", Targets: one, Authentications: 1, Err: &auth.Error{Result: auth.ResultProof},
			},
			"authenticate: 10.77.0.1:22 sent a wrong proof: the host that answers there does not know the client's secret; check the address, and that client and gateway have the same secret; the dial was not retried",
		},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
	}
}

func TestStepErrorUnwrap(t *testing.T) {
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

func TestFormatDuration(t *testing.T) {
	for _, c := range []struct {
		time time.Duration
		want string
	}{
		{200 * time.Millisecond, "0.2 s"}, {1240 * time.Millisecond, "1.2 s"}, {15 * time.Second, "15 s"},
		{9990 * time.Millisecond, "10 s"}, {41400 * time.Millisecond, "41 s"}, {3 * time.Minute, "3m0s"},
	} {
		if got := formatDuration(c.time); got != c.want {
			t.Errorf("%v: %s", c.time, got)
		}
	}
}

func TestStepErrorMentionsClockOnce(t *testing.T) {
	for _, step := range []string{StepResolve, StepConnect, StepAuthenticate} {
		for _, method := range []string{"", "udp", "udp-v2", "tcp-syn"} {
			e := &StepError{Step: step, Address: "10.77.0.1:22", Err: context.DeadlineExceeded, method: method, clock: time.Now()}
			text := e.Error()
			if strings.Contains(text, "deadline") || strings.Count(text, "clock") > 1+strings.Count(text, "the clocks: compare") {
				t.Errorf("%s, %q: %s", step, method, text)
			}
		}
	}
}

func TestCheckClock(t *testing.T) {
	built := buildinfo.Time()
	for now, wrong := range map[time.Time]bool{
		time.Unix(0, 0): true, built.Add(-2 * clockSlack): true, built.Add(-clockSlack / 2): false, built.AddDate(20, 0, 0): false,
	} {
		if err := CheckClock(now); (err != nil) != wrong {
			t.Errorf("%v: %v", now, err)
		}
	}
}

func TestMissingFamily(t *testing.T) {
	addresses := func(texts ...string) func() ([]net.Addr, error) {
		return func() (all []net.Addr, _ error) {
			for _, text := range texts {
				ip, ipnet, err := net.ParseCIDR(text)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, &net.IPNet{IP: ip, Mask: ipnet.Mask})
			}
			return all, nil
		}
	}
	v6only := addresses("127.0.0.1/8", "::1/128", "fe80::1/64", "2001:db8::1/64")
	v4only := addresses("127.0.0.1/8", "192.0.2.1/24", "fe80::1/64")
	for _, c := range []struct {
		targets   []netip.AddrPort
		addresses func() ([]net.Addr, error)
		want      string
	}{
		{[]netip.AddrPort{second4}, v6only, "IPv4"},
		{[]netip.AddrPort{first6}, v4only, "IPv6"},
		{[]netip.AddrPort{second4}, v4only, ""},
		{[]netip.AddrPort{first6, second4}, v4only, ""},
		{nil, v4only, ""},
	} {
		if got := missingFamily(c.targets, c.addresses); got != c.want {
			t.Errorf("%v: %q, want %q", c.targets, got, c.want)
		}
	}
}
