//go:build linux

package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	manyVisits = 1000
	manyAtOnce = 50
	// manyTime bounds all of them, on a busy machine.
	manyTime = 3 * time.Minute
)

func TestThousandConnectionsOverOneProfile(t *testing.T) {
	for _, method := range []string{protocol.MethodUDP, protocol.MethodUDPv2} {
		t.Run(method, func(t *testing.T) {
			l := lab.New(t)
			s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
			h := hide(t, l, method, endpoint{name: "lines", listen: netip.MustParseAddrPort("10.77.0.1:7000"), upstream: s.Addr})
			// The process that makes them fails if it leaves a goroutine behind.
			got := done[visited](withTimeout(t, manyTime), t, l.Client, &visiting{Profile: h.file(), Service: "lines",
				Visits: manyVisits, AtOnce: manyAtOnce, Greeting: s.Greeting})
			for i, failure := range got.Failures {
				if i < 10 {
					t.Error(failure)
				}
			}
			if len(got.FirstBytes) != manyVisits {
				t.Errorf("%d of %d connections succeeded", len(got.FirstBytes), manyVisits)
			}
			if s.Accepted() < manyVisits {
				t.Errorf("%d connections have reached the upstream", s.Accepted())
			}
			slices.Sort(got.FirstBytes)
			t.Logf("%d connections, %d at a time, in %v; knock to first byte: p50 %v, p99 %v, longest %v", manyVisits,
				manyAtOnce, got.Took.Round(time.Millisecond), quantile(got.FirstBytes, 0.5),
				quantile(got.FirstBytes, 0.99), quantile(got.FirstBytes, 1))
		})
	}
}

// quantile is one of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(10 * time.Microsecond)
}

// visiting is a Go program that makes many connections to a line server over
// one profile.
type visiting struct {
	Profile, Service, Greeting string
	Visits, AtOnce             int
}

type visited struct {
	// FirstBytes is how long each connection took from its first knock to the
	// first byte of the upstream's answer.
	FirstBytes []time.Duration
	Failures   []string
	Took       time.Duration
}

func (v *visiting) do(ctx context.Context) (any, error) {
	p, err := profile.Load(v.Profile)
	if err != nil {
		return nil, err
	}
	var (
		got visited
		mu  sync.Mutex
		all errgroup.Group
	)
	all.SetLimit(v.AtOnce)
	began := time.Now()
	for range v.Visits {
		all.Go(func() error {
			took, err := v.visit(ctx, p.DialContext)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				got.Failures = append(got.Failures, err.Error())
			} else {
				got.FirstBytes = append(got.FirstBytes, took)
			}
			return nil
		})
	}
	err = all.Wait()
	got.Took = time.Since(began)
	return got, err
}

// visit is one connection, with one question.
func (v *visiting) visit(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error)) (
	took time.Duration, err error) {
	began := time.Now()
	conn, err := dial(ctx, "tcp", v.Service)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return 0, err
	}
	in := bufio.NewReader(conn)
	if _, err := in.Peek(1); err != nil {
		return 0, err
	}
	took = time.Since(began)
	if line, err := in.ReadString('\n'); err != nil || line != v.Greeting+"\n" {
		return 0, fmt.Errorf("the upstream answered %q, %w", line, err)
	}
	return took, nil
}
