//go:build linux

package netns_test

import (
	"net"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// recorded is what a wiretapper has of one admitted session: its knock and its
// authentication.
type recorded struct {
	endpoint    endpoint
	knock, auth []byte
	session     []byte
}

// admitted lets the peer in by messages that it keeps, and out again.
func (d endpoint) admitted(t *testing.T, v lab.Peer, greeting string) recorded {
	t.Helper()
	r := d.record(t, v)
	r.play(t, v)
	conn := r.connect(t, v)
	if got := ask(t, conn, "hello"); got != greeting {
		t.Errorf("%s: the upstream answered %q", d.name, got)
	}
	closeConn(t, conn)
	return r
}

// record makes the messages of a session without sending them.
func (d endpoint) record(t *testing.T, v lab.Peer) recorded {
	t.Helper()
	r := recorded{endpoint: d}
	if d.authenticates() {
		r.session = lab.NewSession()
		r.auth = d.auth(t, v, r.session)
	}
	if d.knocks() {
		knock, err := v.KnockFor(d.listen, r.session)
		if err != nil {
			t.Fatal(err)
		}
		r.knock = knock
	}
	return r
}

// play sends the recorded knock, if there is one.
func (r recorded) play(t *testing.T, v lab.Peer) {
	t.Helper()
	if r.knock == nil {
		return
	}
	if err := v.Send(t.Context(), r.endpoint.listen, r.knock); err != nil {
		t.Fatal(err)
	}
}

// connect connects and writes the recorded authentication, if there is one.
func (r recorded) connect(t *testing.T, v lab.Peer) net.Conn {
	t.Helper()
	conn, err := v.Dial(withTimeout(t, admitTime), r.endpoint.listen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(r.auth); err != nil {
		t.Fatal(err)
	}
	return conn
}

// assertUseless fails the test if the recorded messages still open the
// endpoint, to any host on the client's side.
func (r recorded) assertUseless(t *testing.T, l *lab.Lab) {
	t.Helper()
	same, other := alice(l.Client), alice(l.Client)
	other.From = l.Client.Other(r.endpoint.listen.Addr())
	for _, v := range []lab.Peer{same, other} {
		r.play(t, v)
		r.endpoint.assertShut(t, v, r.auth)
	}
}

func TestReplayedKnockOpensNothing(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			r := d.admitted(t, alice(l.Client), s.Greeting)
			r.assertUseless(t, l)
		})
	}
}

func TestReplayedAuthIsRefused(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	for _, d := range all {
		if !d.knocks() || !d.authenticates() {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			v := alice(l.Client)
			r := d.admitted(t, v, s.Greeting)
			if err := v.Knock(t.Context(), d.listen, r.session); err != nil {
				t.Fatal(err)
			}
			conn, err := v.Dial(withTimeout(t, admitTime), d.listen)
			if err != nil {
				t.Fatal(err)
			}
			d.assertMute(t, conn, r.auth)
		})
	}
}

func TestReplayAfterCrashOpensNothing(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	gateway := site.Start(t)
	var tapes []recorded
	for _, d := range all {
		tapes = append(tapes, d.admitted(t, alice(l.Client), s.Greeting))
		if d.knocks() {
			// An unused knock is remembered too; its grant dies with the
			// gateway.
			unused := d.record(t, alice(l.Client))
			unused.play(t, alice(l.Client))
			tapes = append(tapes, unused)
		}
	}
	// The unused knocks are claimed a moment after they arrive; the visit
	// behind them shows that they were.
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Accepted()
	gateway.Kill()
	site.Start(t)
	t.Run("replays", func(t *testing.T) {
		for _, r := range tapes {
			t.Run(r.endpoint.name, func(t *testing.T) {
				t.Parallel()
				r.assertUseless(t, l)
			})
		}
	})
	if got := s.Accepted() - before; got != 0 {
		t.Errorf("replays reached the upstream %d times", got)
	}
	// The gateway itself is as good as before.
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
}
