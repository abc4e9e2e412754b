//go:build linux

package netns_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// refusing is an address of the upstream without a listener, and swallowing
	// one behind it at which every packet disappears.
	refusing   = "10.1.3.2:9"
	swallowing = "10.99.0.1:80"
	// upstreamPatience is longer than the gateway's own at its upstream, 5 s.
	upstreamPatience = 8 * time.Second
)

// failingSite is a lab whose endpoints all lead to one upstream that fails.
func failingSite(t *testing.T, upstream string) (*lab.Lab, *lab.Gateway, []endpoint) {
	t.Helper()
	l := lab.New(t)
	l.Upstream.MustRun("ip", "route", "add", "blackhole", "10.99.0.0/24")
	l.Gateway.MustRun("ip", "route", "add", "10.99.0.0/24", "via", l.Upstream.Addr4.String())
	all := endpoints(upstream)
	return l, l.NewSite(t, program.get(t), configuration(all...)).Start(t), all
}

// named fails the test unless the gateway's log comes to name the upstream.
func named(t *testing.T, g *lab.Gateway, upstream string) {
	t.Helper()
	if err := g.WaitLog(withTimeout(t, answerTime), func(log string) bool {
		return strings.Contains(log, upstream)
	}); err != nil {
		t.Errorf("the gateway's log does not name the upstream %s: %v", upstream, err)
	}
}

func TestRefusingUpstreamResetsClient(t *testing.T) {
	t.Parallel()
	l, gateway, all := failingSite(t, refusing)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			began := time.Now()
			conn, err := d.enter(withTimeout(t, upstreamPatience), alice(l.Client))
			if !d.authenticates() {
				// The upstream is asked before the handshake is answered, so
				// the port looks closed.
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("the client got %v, want a refusal", err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				defer closeConn(t, conn)
				if err := conn.SetReadDeadline(time.Now().Add(upstreamPatience)); err != nil {
					t.Fatal(err)
				}
				if said, err := io.ReadAll(conn); len(said) > 0 || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client got %q and %v, want a reset", said, err)
				}
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("the refusal took %v", took)
			}
		})
	}
	named(t, gateway, refusing)
}

func TestSilentUpstreamKeepsClientSilent(t *testing.T) {
	t.Parallel()
	l, gateway, all := failingSite(t, swallowing)
	t.Run("endpoints", func(t *testing.T) {
		for _, d := range all {
			if d.authenticates() {
				continue
			}
			t.Run(d.name, func(t *testing.T) {
				capture := l.Client.Capture(lab.Link)
				_, err := d.enter(withTimeout(t, upstreamPatience), alice(l.Client))
				if err == nil || !timedOut(err) {
					t.Errorf("the client got %v, want no answer", err)
				}
				own := netip.PrefixFrom(d.listen.Addr(), d.listen.Addr().BitLen())
				for _, p := range capture.Stop() {
					if own.Contains(p.Src) {
						t.Errorf("the client was answered:\n%v", p)
					}
				}
			})
		}
	})
	named(t, gateway, swallowing)
}

func TestSilentUpstreamSendsNoData(t *testing.T) {
	t.Parallel()
	l, gateway, all := failingSite(t, swallowing)
	t.Run("endpoints", func(t *testing.T) {
		for _, d := range all {
			if !d.authenticates() {
				continue
			}
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
				if err != nil {
					t.Fatal(err)
				}
				defer closeConn(t, conn)
				if err := conn.SetReadDeadline(time.Now().Add(upstreamPatience)); err != nil {
					t.Fatal(err)
				}
				said, err := io.ReadAll(conn)
				if len(said) > 0 || err == nil {
					t.Errorf("the client got %q and %v, want no data and no orderly end", said, err)
				}
			})
		}
	})
	named(t, gateway, swallowing)
}

// A gateway that stops tells the clients whose sessions it ends; that is how
// they know.
func TestStopResetsRemainingSessions(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	gateway := site.Start(t)
	for _, d := range all {
		ctx, cancel := context.WithTimeout(t.Context(), admitTime)
		defer cancel()
		conn, err := d.enter(ctx, alice(l.Client))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, conn, "hello"); got != s.Greeting {
			t.Errorf("the upstream answered %q", got)
		}
		defer func() {
			if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
				t.Error(err)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: a session ended by a stop got %v, want a reset", d.name, err)
			}
			closeConn(t, conn)
		}()
	}
	gateway.Stop()
}
