//go:build linux

package netns_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// lineFlood is how long attackers try, and repeated how many copies of one
	// knock there are.
	lineFlood = 2 * time.Second
	repeated  = 2_000
	// banned is how many sources have themselves banned.
	banned = 40
	// kinds is how many kinds of line the flood can bring about: knocks
	// refused, authentications refused, bans.
	kinds = 3
	// oneOff is how many lines there may be besides: that the gateway is ready,
	// alice's own knock and the like.
	oneOff = 12
)

// Whatever attackers send, the log grows by a few lines a second, and by none
// for what is no client's.
func TestLogIsBoundedDuringFlood(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 0).String())
	open := endpoint{name: "open", mode: "auth", listen: netip.MustParseAddrPort("10.77.0.1:8001"), upstream: s.Addr}
	hidden := endpoint{name: "hidden", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:8002"), upstream: s.Addr}
	g := l.NewSite(t, program.get(t), configuration(open, hidden)+"ban: {after: 1, within: 1m, for: 1h}\n").Start(t)
	lines := func() int { return strings.Count(g.Log(), "\n") }

	before := lines()
	for form := range int(lab.JunkIllFormed) + 1 {
		turn, stop := context.WithTimeout(t.Context(), lineFlood/10)
		_, err := l.Attacker.Flood(turn, lab.Junk{Form: lab.Form(form), To: netip.AddrPortFrom(open.listen.Addr(), 0)}, 0)
		stop()
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := lines() - before; n != 0 {
		t.Errorf("attackers' packets have made %d lines:\n%s", n, g.Log())
	}

	began := time.Now()
	v := alice(l.Client)
	overheard := hidden.admitted(t, v, s.Greeting)
	for range repeated {
		overheard.play(t, v)
	}
	var many []netip.Addr
	for a := l.Attacker.Other4.Next(); len(many) < banned; a = a.Next() {
		many = append(many, a)
	}
	l.Attacker.AddAddrs(many...)
	for _, from := range many {
		mallory := lab.Peer{Host: l.Attacker, From: from, ID: "mallory", Secret: []byte("mallory's own secret, long enough")}
		defer closeConn(t, open.record(t, mallory).connect(t, mallory))
	}
	for end := time.Now().Add(authDeadline + answerTime); g.Metrics()["knockgw_banned_sources"] < banned; time.Sleep(sampleEvery) {
		if time.Now().After(end) {
			t.Fatalf("%v sources are banned", g.Metrics()["knockgw_banned_sources"])
		}
	}
	seconds := int(time.Since(began)/time.Second) + 2
	most := kinds*loglimit.PerSecond*seconds + oneOff
	if n := lines() - before; n > most || n == 0 {
		t.Errorf("%d lines in %d seconds, and may be %d:\n%s", n, seconds, most, g.Log())
	} else {
		t.Logf("%d lines in %d seconds about %d copies of a knock and %d bans", n, seconds, repeated, banned)
	}
	if n := strings.Count(g.Log(), "source banned"); n == 0 || n >= banned {
		t.Errorf("%d lines about %d bans", n, banned)
	}
}
