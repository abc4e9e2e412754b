//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// rotation is how long the client of the test prefers an address: less than the
// parts of a sequence take, so that each of its dials sees several.
const rotation = 50 * time.Millisecond

func TestClientWhoseAddressRotatesIsAdmitted(t *testing.T) {
	const times = 12 // dials, each to a service of its own: a time slot has room for one sequence to each
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	var endpoints []endpoint
	for i := range times {
		endpoints = append(endpoints, endpoint{
			name: fmt.Sprint("rotating-", i), mode: "knock-auth", upstream: s.Addr,
			listen: netip.AddrPortFrom(hosts()["v6"], uint16(8101+i)), methods: []string{protocol.MethodTCPSYNSeq},
		})
	}
	alice := newCLIClient(t, l.Client, "alice", aliceSecret)
	l.NewSite(t, program.get(t), knocking("length: 3")+clients(alice)+services(endpoints...)).Start(t)

	ctx, stop := context.WithCancel(t.Context())
	var rotating sync.WaitGroup
	defer rotating.Wait()
	defer stop()
	rotations := 0
	rotating.Go(func() {
		old := l.Client.Addr6
		next := l.Client.Other6
		for ctx.Err() == nil {
			next = next.Next()
			if err := l.Client.Replace(old, next); err != nil {
				t.Error(err)
				return
			}
			old = next
			rotations++
			time.Sleep(rotation)
		}
	})

	began := time.Now()
	for _, d := range endpoints {
		alice.assertReaches(t, d, s.Greeting, "--method", protocol.MethodTCPSYNSeq, "--proof")
	}
	took := time.Since(began)
	stop()
	rotating.Wait()
	t.Logf("%d dials in %v, while the address was replaced %d times", times, took, rotations)
	if rotations < 2*times {
		t.Errorf("the address was replaced %d times during %d dials", rotations, times)
	}
}
