//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// atOnce is how many sessions begin at once: half of the knocks and SYNs that
// the gateway keeps undecided for one address (docs/wire-formats.md), so that
// bursts of the machine's own do not count.
const atOnce = 32

// hold opens n sessions at an endpoint, asks each a question of its own while
// all are open, and closes them all.
func (d endpoint) hold(t *testing.T, v lab.Peer, n int) {
	t.Helper()
	conns := make([]net.Conn, n)
	ctx, cancel := context.WithTimeout(t.Context(), 3*admitTime)
	defer cancel()
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	opening, octx := errgroup.WithContext(ctx)
	opening.SetLimit(atOnce)
	for i := range conns {
		opening.Go(func() (err error) {
			if conns[i], err = d.enter(octx, v); err != nil {
				return err
			}
			// Only an answer shows that the gateway has decided.
			_, err = question(conns[i], "echo in")
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		t.Fatalf("open %d sessions: %v", n, err)
	}
	var asking errgroup.Group
	for i, c := range conns {
		asking.Go(func() error {
			want := fmt.Sprintf("question %d", i)
			got, err := question(c, "echo "+want)
			if err == nil && got != want {
				err = fmt.Errorf("%q was answered with %q", want, got)
			}
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		t.Errorf("one of %d sessions: %v", n, err)
	}
}

func TestSixParallelConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	l, site, _, all := site(t)
	site.Start(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			for range 10 {
				d.hold(t, alice(l.Client), 6)
			}
		})
	}
}

func TestTwoHundredConcurrentSessions(t *testing.T) {
	t.Parallel()
	l, site, _, all := site(t)
	site.Start(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) { d.hold(t, alice(l.Client), 200) })
	}
}
