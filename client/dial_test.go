package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

var (
	first6  = netip.MustParseAddrPort("[fd77::1]:22")
	second4 = netip.MustParseAddrPort("10.77.0.1:22")
	third6  = netip.MustParseAddrPort("[fd77::2]:22")
)

// dialTargets dials targets with d, as DialContext does after resolving.
func dialTargets(ctx context.Context, d *Dialer, targets ...netip.AddrPort) (net.Conn, *StepError) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	run := &dial{Dialer: d, address: "ssh.example.com:22", start: time.Now()}
	return run.reach(ctx, targets)
}

func TestDialWithLoss(t *testing.T) {
	const (
		times   = 400
		limit   = 10 * time.Second
		allowed = times * 2 / 100 // failures
	)
	synctest.Test(t, func(t *testing.T) {
		var failed int
		var took []time.Duration
		for range times {
			n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
			n.loss, n.random = 0.2, newRand(len(took))
			began := time.Now()
			conn, err := n.dialer(t).DialContext(t.Context(), "tcp", second4.String())
			took = append(took, time.Since(began))
			if err == nil {
				_ = conn.Close()
			}
			if err != nil || took[len(took)-1] > limit {
				failed++
			}
		}
		slices.Sort(took)
		t.Logf("of %d, %d failed; median %v, of ten nine %v, of a hundred 99 %v, the last %v",
			times, failed, took[times/2], took[times*9/10], took[times*99/100], took[times-1])
		if failed > allowed {
			t.Errorf("%d of %d failed", failed, times)
		}
	})
}

func TestDialHappyEyeballs(t *testing.T) {
	const trip = 20 * time.Millisecond
	for name, c := range map[string]struct {
		hosts   []hostKind // of first6, second4, third6
		noKnock bool
		took    time.Duration
		dials   int
		winner  netip.AddrPort
		err     error
	}{
		"first address answers":               {hosts: []hostKind{gatedHost, gatedHost}, took: trip, dials: 1, winner: first6},
		"silent address costs the delay":      {hosts: []hostKind{noHost, gatedHost}, took: attemptDelay + trip, dials: 2, winner: second4},
		"two silent addresses":                {hosts: []hostKind{noHost, noHost, gatedHost}, took: 2*attemptDelay + trip, dials: 3, winner: third6},
		"refusing address costs a round trip": {hosts: []hostKind{refusing, gatedHost}, took: 2 * trip, dials: 2, winner: second4},
		"no route costs nothing":              {hosts: []hostKind{unroutable, gatedHost}, took: trip, dials: 1, winner: second4},
		"all refuse":                          {hosts: []hostKind{refusing, refusing}, took: 2 * trip, dials: 2, err: syscall.ECONNREFUSED},
		"no route to any":                     {hosts: []hostKind{unroutable, unroutable}, err: syscall.ENETUNREACH},
		"silence":                             {hosts: []hostKind{noHost}, took: DefaultTimeout, dials: 7, err: context.DeadlineExceeded},
		"silence and a refusal":               {hosts: []hostKind{refusing, noHost}, took: DefaultTimeout, dials: 8, err: syscall.ECONNREFUSED},
		"without knock, each dialled once":    {hosts: []hostKind{noHost, noHost}, noKnock: true, took: DefaultTimeout, dials: 2, err: context.DeadlineExceeded},
		"without knock, third answers":        {hosts: []hostKind{unroutable, noHost, impostor}, noKnock: true, took: attemptDelay + trip, dials: 2, winner: third6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				targets, hosts := []netip.AddrPort{first6, second4, third6}[:len(c.hosts)], map[netip.Addr]hostKind{}
				for i, h := range c.hosts {
					hosts[targets[i].Addr()] = h
				}
				n := newFakeNet(t, hosts)
				n.noAuth = true
				d := n.dialer(t)
				d.NoKnock = c.noKnock
				began := time.Now()
				conn, err := dialTargets(t.Context(), d, targets...)
				if took := time.Since(began); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if len(n.dials) != c.dials {
					t.Errorf("%d connections were tried, want %d: %v", len(n.dials), c.dials, n.dials)
				}
				if err != nil {
					if c.err == nil || !errors.Is(err, c.err) {
						t.Errorf("%v, want %v", err, c.err)
					}
					return
				}
				_ = conn.Close()
				if c.err != nil {
					t.Fatalf("connected, want %v", c.err)
				}
				if last := n.dials[len(n.dials)-1]; last.to != c.winner {
					t.Errorf("connected to %v, want %v", last.to, c.winner)
				}
				for _, k := range n.knocks {
					if !slices.ContainsFunc(n.dials, func(f fakeDial) bool { return f.to.Addr() == k.to.Addr() }) {
						t.Errorf("knocked at %v without a connection", k.to)
					}
				}
			})
		})
	}
}

func TestDialRetryKnocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
		n.dropKnocks, n.dropAuths = 2, 1
		began := time.Now()
		conn, err := n.dialer(t).DialContext(t.Context(), "tcp", second4.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if len(n.knocks) != 3+maxResends+1 {
			t.Fatalf("%d knocks", len(n.knocks))
		}
		nonces := map[string]bool{}
		for _, k := range n.knocks {
			nonces[k.nonce] = true
		}
		if len(nonces) != len(n.knocks) {
			t.Error("a nonce was used twice")
		}
		k := n.knocks
		if k[0].session != k[1].session || k[1].session != k[2].session {
			t.Error("attempts of one dial have different sessions")
		}
		for _, again := range k[3 : 3+maxResends] {
			if again.session != k[2].session {
				t.Error("the knocks during an authentication have another session")
			}
		}
		if k[2].session == k[3+maxResends].session {
			t.Error("the session of an authentication that failed was used again")
		}
		for i, want := range []time.Duration{0, initialBackoff, initialBackoff + initialBackoff*3/2} {
			if at := k[i].at - began.Sub(fakeStart); at != want {
				t.Errorf("knock %d was sent after %v, want %v", i+1, at, want)
			}
		}
	})
}

func TestDialAuthenticationLimit(t *testing.T) {
	for name, c := range map[string]struct {
		dweller         hostKind
		authentications int
		result          auth.Result
		took            time.Duration
	}{
		"refused":     {gatedHost, 2, auth.ResultClosed, 2*auth.DefaultDeadline + time.Second},
		"closed":      {closing, 2, auth.ResultClosed, time.Second},
		"silence":     {silent, 2, auth.ResultCanceled, 2*handshakeTimeout + time.Second},
		"wrong proof": {impostor, 1, auth.ResultProof, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): c.dweller})
				n.dropAuths = 9
				began := time.Now()
				_, err := n.dialer(t).DialContext(t.Context(), "tcp", second4.String())
				var step *StepError
				var failure *auth.Error
				if !errors.As(err, &step) || step.Step != StepAuthenticate || !errors.As(err, &failure) {
					t.Fatal(err)
				}
				if step.Authentications != c.authentications || failure.Result != c.result {
					t.Errorf("%d authentications, the last one %v", step.Authentications, failure.Result)
				}
				if took := time.Since(began); took > c.took {
					t.Errorf("took %v", took)
				}
				if strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "\n") {
					t.Error(err)
				}
			})
		})
	}
}

func TestDialLateAnswerWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
		n.rtt = 1200 * time.Millisecond
		var connected []Attempt
		d := n.dialer(t)
		d.Trace = &Trace{Connected: func(a Attempt, _ error) { connected = append(connected, a) }}
		conn, err := d.DialContext(t.Context(), "tcp", second4.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if len(connected) != 1 || connected[0].Number != 1 || connected[0].Elapsed != n.rtt {
			t.Errorf("connected %+v", connected)
		}
	})
}

func TestDialCanceled(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 600 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
			n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): noHost, first6.Addr(): silent})
			for _, at := range []netip.AddrPort{second4, first6} {
				ctx, cancel := context.WithCancel(t.Context())
				if after == 0 {
					cancel()
				}
				stop := time.AfterFunc(after+1, cancel)
				began := time.Now()
				_, err := n.dialer(t).DialContext(ctx, "tcp", at.String())
				if !errors.Is(err, context.Canceled) || time.Since(began) > after+1 {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if n.open != 0 {
					t.Errorf("%d sockets are open", n.open)
				}
				stop.Stop()
				cancel()
			}
		})
	}
}

func TestDialLocalPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
		n.dropKnocks = 3
		d := n.dialer(t)
		d.Net.LocalAddr = &net.TCPAddr{Port: 40000}
		conn, err := d.DialContext(t.Context(), "tcp", second4.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if n.maxDialing != 1 || len(n.dials) != 4 {
			t.Errorf("%d at a time, %d in all", n.maxDialing, len(n.dials))
		}
	})
}

func TestDialMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): noHost})
		d := n.dialer(t)
		d.Timeout = time.Minute
		_, err := d.DialContext(t.Context(), "tcp", second4.String())
		var step *StepError
		if !errors.As(err, &step) || step.Attempts < 30 || n.maxDialing != maxInFlight {
			t.Errorf("%d at once: %v", n.maxDialing, err)
		}
	})
}

func TestDialBadOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, nil)
		for _, d := range []*Dialer{
			{Method: "knock-knock"}, {Method: protocol.MethodUDPSeq, Sequence: Sequence{Length: 1}},
		} {
			d.Identity, d.Dial = testIdentity(t), n.dial
			began := time.Now()
			_, err := dialTargets(t.Context(), d, first6, second4)
			if err == nil || err.Step != StepKnock || !errors.Is(err, ErrOption) || err.Attempts != 1 || time.Since(began) > 0 {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		}
	})
}

func TestTraceSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]hostKind{first6.Addr(): refusing, second4.Addr(): gatedHost})
		n.dropKnocks, n.dropAuths = 2, 1
		var heard []string
		tell := func(what string) func(Attempt, error) {
			return func(a Attempt, err error) {
				if err != nil {
					what += "!"
				}
				heard = append(heard, what)
			}
		}
		d := n.dialer(t)
		d.Trace = &Trace{
			Resolved: func(addrs []netip.AddrPort) {
				if len(addrs) != 2 {
					t.Errorf("resolved %v", addrs)
				}
			},
			Knocked:       func(a Attempt, err error) { tell("knocked")(a, err) },
			Connected:     func(a Attempt, err error) { tell("connected")(a, err) },
			Authenticated: func(a Attempt, err error) { tell("authenticated")(a, err) },
		}
		conn, err := dialTargets(t.Context(), d, first6, second4)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		want := "knocked connected! knocked knocked connected authenticated! knocked connected! knocked connected authenticated"
		if got := strings.Join(heard, " "); got != want {
			t.Errorf("heard\n%s, want\n%s", got, want)
		}
	})
}

func TestDialKnockDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
		d := n.dialer(t)
		d.KnockDelay = 50 * time.Millisecond
		began := time.Now()
		conn, err := d.DialContext(t.Context(), "tcp", second4.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if took := time.Since(began); took != d.KnockDelay+n.rtt {
			t.Errorf("took %v", took)
		}
	})
}

func TestBackoffGrows(t *testing.T) {
	want := []time.Duration{500, 750, 1125, 1687, 2000, 2000}
	for i, w := range want {
		if got := backoff(i + 1); got.Truncate(time.Millisecond) != w*time.Millisecond {
			t.Errorf("after %d attempts: %v, want %v ms", i+1, got, w)
		}
	}
}

func TestInterleave(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"1.1.1.1:1", "1.1.1.1:1"},
		{"1.1.1.1:1 1.1.1.2:1 [::1]:1", "[::1]:1 1.1.1.1:1 1.1.1.2:1"},
		{"[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1 [::2]:1 [::3]:1"},
	} {
		var in []netip.AddrPort
		for a := range strings.FieldsSeq(c.in) {
			in = append(in, netip.MustParseAddrPort(a))
		}
		var got []string
		for _, a := range interleave(in) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v", c.in, got)
		}
	}
}

func TestResolveAllLiteral(t *testing.T) {
	for _, c := range []struct {
		network, address, want string
		fails                  bool
	}{
		{"tcp", "10.77.0.1:22", "10.77.0.1:22", false},
		{"tcp4", "10.77.0.1:22", "10.77.0.1:22", false},
		{"tcp6", "10.77.0.1:22", "", true},
		{"tcp", "[::ffff:10.77.0.1]:22", "10.77.0.1:22", false},
		{"tcp", "[fe80::1%eth0]:22", "[fe80::1%eth0]:22", false},
		{"udp", "10.77.0.1:22", "", true},
		{"tcp", "10.77.0.1", "", true},
		{"tcp", "10.77.0.1:66000", "", true},
	} {
		got, err := new(Dialer).ResolveAll(t.Context(), c.network, c.address)
		if (err != nil) != c.fails || err == nil && (len(got) != 1 || got[0].String() != c.want) {
			t.Errorf("%s %s: %v, %v", c.network, c.address, got, err)
		}
	}
}
