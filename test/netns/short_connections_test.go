//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	churnRounds  = 5
	churnVisits  = 3000 // in a round
	churnWorkers = 8
	// churnLimit is how much slower than the first a round may be.
	churnLimit = 1.5
	// churnAttempts is how often all rounds are made while one of them is too
	// slow: what the gateway does wrong it does every time, and what else the
	// machine is busy with it does not.
	churnAttempts = 3
	// churnVisitTime is longer than a SYN takes to be sent again, so that a
	// stall shows as slowness and is counted as such, not as a failure.
	churnVisitTime = 30 * time.Second
	// wide is a range of ports with room for all the connections of a test. It
	// matters on the gateway too: where the client closes first, the gateway
	// closes first towards the upstream, and its kernel keeps each of those
	// ports for a minute. In the usual range, 28232 ports, half of them
	// preferred, any proxy's kernel runs short in the fifth round and spends
	// its time looking for a free one: HAProxy's rate falls to a third there.
	wide = "1024 65000"
)

// The side that closes a connection keeps its ports in TIME_WAIT, and in
// TIME_WAIT the gateway's stack swallows the SYN of a client that uses them
// again. Half of the ways to meet that is to let the upstream close first, so
// that it is the gateway which waits; a client with few ports makes it certain.
//
// These do not run in parallel with anything: they compare times.

func TestShortConnectionsClientClosesFirst(t *testing.T) {
	testtool.RequireLong(t, "compares times")
	churn(t, wide, func(conn io.ReadWriter) error {
		_, err := io.WriteString(conn, "hello\n")
		if err == nil {
			_, err = conn.Read(make([]byte, 64))
		}
		return err
	})
}

func TestShortConnectionsUpstreamClosesFirst(t *testing.T) {
	testtool.RequireLong(t, "compares times")
	churn(t, "32768 60999", readAll)
}

func TestShortConnectionsFewPorts(t *testing.T) {
	testtool.RequireLong(t, "compares times")
	churn(t, "30000 37999", readAll)
}

func readAll(conn io.ReadWriter) error {
	_, err := io.WriteString(conn, "bye\n")
	if err == nil {
		_, err = io.Copy(io.Discard, conn)
	}
	return err
}

// churn makes rounds of short connections over endpoints with and without
// authentication.
func churn(t *testing.T, ports string, talk func(io.ReadWriter) error) {
	t.Helper()
	grant := []string{"grant: {ttl: 10m, uses: 60000}"}
	for _, d := range []endpoint{
		{name: "knock", listen: netip.MustParseAddrPort("10.77.0.1:8001"), mode: "knock", extra: grant},
		{name: "auth", listen: netip.MustParseAddrPort("[fd77::1]:8002"), mode: "auth"},
	} {
		t.Run(d.name, func(t *testing.T) {
			var slow error
			for range churnAttempts {
				if slow = d.churned(t, ports, talk); slow == nil {
					return
				}
				t.Log(slow)
			}
			t.Error(slow)
		})
	}
}

// churned makes all rounds in a lab of their own. The error is about a round
// that was slower than the first.
func (d endpoint) churned(t *testing.T, ports string, talk func(io.ReadWriter) error) error {
	t.Helper()
	l := lab.New(t)
	l.Client.Sysctl("ipv4/ip_local_port_range", ports)
	l.Gateway.Sysctl("ipv4/ip_local_port_range", wide)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	d.upstream = s.Addr
	gateway := l.NewSite(t, program.get(t), configuration(d)).Start(t)
	defer gateway.Kill()
	v := alice(l.Client)
	if d.knocks() {
		if err := d.visit(t.Context(), v, s.Greeting); err != nil {
			t.Fatal(err)
		}
	}
	var first time.Duration
	for i := range churnRounds {
		took := d.round(t, v, talk)
		t.Logf("round %d: %d connections in %v, %.0f/s", i+1, churnVisits, took.Round(time.Millisecond),
			churnVisits/took.Seconds())
		if i == 0 {
			first = took
		} else if float64(took) > churnLimit*float64(first) {
			return fmt.Errorf("round %d took %v, and the first %v", i+1, took, first)
		}
	}
	return nil
}

// round makes one round of connections and returns how long it took.
func (d endpoint) round(t *testing.T, v lab.Peer, talk func(io.ReadWriter) error) time.Duration {
	t.Helper()
	began := time.Now()
	var workers errgroup.Group
	for range churnWorkers {
		workers.Go(func() error {
			for range churnVisits / churnWorkers {
				if err := d.short(t.Context(), v, talk); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// short is one short connection.
func (d endpoint) short(ctx context.Context, v lab.Peer, talk func(io.ReadWriter) error) error {
	ctx, cancel := context.WithTimeout(ctx, churnVisitTime)
	defer cancel()
	conn, err := d.enterAs(ctx, v, nil)
	if err != nil {
		return err
	}
	err = conn.SetDeadline(time.Now().Add(churnVisitTime))
	if err == nil {
		err = talk(conn)
	}
	return errors.Join(err, conn.Close())
}
