//go:build linux

package netns_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// site is a lab with a gateway that has an endpoint of every kind, before one
// line server.
func site(t *testing.T) (*lab.Lab, *lab.Site, *lab.LineServer, []endpoint) {
	t.Helper()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	return l, l.NewSite(t, program.get(t), configuration(all...)), s, all
}

func TestClientReachesUpstream(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			peers := map[string]func(*lab.Peer){
				"with an envelope v2":             func(*lab.Peer) {},
				"with a frame v1":                 func(v *lab.Peer) { v.Format = lab.FrameV1 },
				"with an envelope v2 and a proof": func(v *lab.Peer) { v.Proof = true },
				"with a frame v1 and a proof":     func(v *lab.Peer) { v.Format, v.Proof = lab.FrameV1, true },
				"with a slow clock":               func(v *lab.Peer) { v.Behind = 25 * time.Second },
				"with a fast clock":               func(v *lab.Peer) { v.Behind = -25 * time.Second },
				"with a knock to the port itself": func(v *lab.Peer) { v.KnockPort = 0 },
			}
			for name, change := range peers {
				v := alice(l.Client)
				change(&v)
				if err := d.visit(t.Context(), v, s.Greeting); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestUpstreamMayBeOfOtherFamily(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr6, 7000).String())
	all := endpoints(s.Addr)
	l.NewSite(t, program.get(t), configuration(all...)).Start(t)
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
}

func TestUnauthorizedClientIsRefused(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	before := s.Accepted()
	for _, d := range all {
		for name, v := range map[string]lab.Peer{
			"a client without the secret":  {Host: l.Client, ID: "alice", Secret: []byte("a guess, a guess, a guess!"), KnockPort: knockPort},
			"an unknown client":            {Host: l.Client, ID: "carol", Secret: []byte(aliceSecret), KnockPort: knockPort},
			"a client of another endpoint": {Host: l.Client, ID: "bob", Secret: []byte(bobSecret), KnockPort: knockPort},
			"a message too old":            {Host: l.Client, ID: "alice", Secret: []byte(aliceSecret), KnockPort: knockPort, Behind: 35 * time.Second},
			"a message from the future":    {Host: l.Client, ID: "alice", Secret: []byte(aliceSecret), KnockPort: knockPort, Behind: -35 * time.Second},
		} {
			t.Run(d.name+" and "+name, func(t *testing.T) {
				t.Parallel()
				d.assertRefused(t, v)
			})
		}
	}
	t.Cleanup(func() {
		if got := s.Accepted() - before; got != 0 {
			t.Errorf("%d connections reached the upstream", got)
		}
	})
}

// assertRefused fails the test unless a peer that does everything that the
// endpoint demands stays outside.
func (d endpoint) assertRefused(t *testing.T, v lab.Peer) {
	t.Helper()
	session := lab.NewSession()
	if !d.authenticates() {
		session = nil
	}
	if d.knocks() {
		if err := v.Knock(t.Context(), d.listen, session); err != nil {
			t.Fatal(err)
		}
	}
	d.assertShut(t, v, d.auth(t, v, session))
}

// auth is the peer's authentication, empty where the endpoint wants none.
func (d endpoint) auth(t *testing.T, v lab.Peer, session []byte) []byte {
	t.Helper()
	if !d.authenticates() {
		return nil
	}
	auth, err := v.AuthFor(d.listen, session)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func TestKnockAdmitsOnlyItsAddress(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	for _, d := range all {
		if !d.knocks() {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			here, there := alice(l.Client), alice(l.Client)
			there.From = l.Client.Other(d.listen.Addr())
			session := lab.NewSession()
			if err := here.Knock(t.Context(), d.listen, session); err != nil {
				t.Fatal(err)
			}
			d.assertShut(t, there, d.auth(t, there, session))
			// The attempt has not cost the rightful client his grant.
			conn, err := d.enterAs(withTimeout(t, admitTime), here, session)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, conn, "hello"); got != s.Greeting {
				t.Errorf("the upstream answered %q", got)
			}
			closeConn(t, conn)
		})
	}
}

func TestAuthNeedsSessionOfKnock(t *testing.T) {
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
			session := lab.NewSession()
			if err := v.Knock(t.Context(), d.listen, session); err != nil {
				t.Fatal(err)
			}
			for name, wrong := range map[string][]byte{"another session": lab.NewSession(), "no session": nil} {
				conn, err := v.Dial(withTimeout(t, admitTime), d.listen)
				if err != nil {
					t.Fatalf("connect after a knock, for %s: %v", name, err)
				}
				d.assertMute(t, conn, d.auth(t, v, wrong))
			}
			// A mismatch consumes nothing.
			conn, err := d.enterAs(withTimeout(t, admitTime), v, session)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, conn, "hello"); got != s.Greeting {
				t.Errorf("the upstream answered %q", got)
			}
			closeConn(t, conn)
		})
	}
}
