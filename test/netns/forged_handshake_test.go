//go:build linux

package netns_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// forgedRate is what a home connection sends with ease, in packets a second.
	forgedRate = 2000
	// forgedPorts is how many handshakes are forged in rotation: each is
	// repeated every 40 ms, which is less than a round trip.
	forgedPorts = 40
	freshPorts  = 30_000
	firstForged = 2000
	forgedWords = "POST /EVIL HTTP/1.1\r\n\r\n"
	// forgedVisits is how often the client comes.
	forgedVisits = 8
)

// A forger makes handshakes of a client that has not begun them: the SYN, and
// some time later the third packet, whose acknowledgement number is a guess,
// with data.
type forger struct {
	from   netip.Addr
	to     netip.AddrPort
	data   string // none: SYNs alone
	random *rand.Rand
	n      int
}

func (f *forger) next(b []byte) int {
	turn := f.n
	if f.data != "" {
		turn /= 2
	}
	s := lab.Segment{Dst: f.to, Flags: lab.SYN, Options: []byte{2, 4, 5, 180}}
	if f.data != "" && f.n%2 == 1 {
		turn += forgedPorts / 2
		s.Flags, s.Options, s.Payload = lab.ACK|lab.PSH, nil, []byte(f.data)
		s.Ack = f.random.Uint32()
	}
	f.n++
	ports := forgedPorts
	if f.data == "" {
		ports = freshPorts // each is a flow of its own
	}
	port := uint16(firstForged + turn%ports)
	s.Src, s.Seq = netip.AddrPortFrom(f.from, port), uint32(port)<<16
	if s.Flags&lab.ACK != 0 {
		s.Seq++
	}
	return len(s.Append(b[:0]))
}

// An attacker that knows a client's address and the service completes no
// handshake in the client's name, however often the client comes, and brings no
// ban upon it.
func TestForgedHandshakesReachNoUpstream(t *testing.T) {
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		open := endpoint{name: "open", mode: "auth", listen: netip.MustParseAddrPort("10.77.0.1:8001"), upstream: r.addr}
		endpoints := []endpoint{
			hiddenAt("10.77.0.1:8002", "knock", r.addr, protocol.MethodUDP, protocol.MethodUDPv2),
			hiddenAt("[fd77::1]:8002", "knock", r.addr, protocol.MethodUDP, protocol.MethodUDPv2),
			hiddenAt("10.77.0.1:8003", "knock-auth", r.addr, protocol.MethodUDP, protocol.MethodUDPv2),
		}
		l.NewSite(t, program.get(t), attackText("ban: {after: 3}\n", append(endpoints, open)...)).Start(t)
		for _, d := range endpoints {
			f := &forger{from: farAddr(d.listen.Addr()), to: d.listen, data: forgedWords, random: seeded()}
			var median time.Duration
			sent := during(t, l, d.listen.Addr(), f.next, forgedRate, func() {
				median = medianAdmission(t, attackedDialer(t, l, d, protocol.MethodUDP), d, r.greeting, forgedVisits)
			})
			t.Logf("%s: %d packets were forged; the client got in after %v (median)", d.name, sent, median)
			r.onlyClients(t)
		}
		if _, err := admit(t.Context(), attackedDialer(t, l, open, ""), open, r.greeting); err != nil {
			t.Errorf("the forged handshakes have banned the client: %v", err)
		}
	})
}

// A knock that is bound to its port leaves such an attacker nothing to take
// away.
func TestForgedHandshakesKeepNoBoundKnockOut(t *testing.T) {
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		d := hiddenAt("10.77.0.1:8002", "knock", r.addr, protocol.MethodUDPv2)
		l.NewSite(t, program.get(t), attackText("", d)).Start(t)
		dialer := attackedDialer(t, l, d, protocol.MethodUDPv2)
		dialer.BindPort = true
		before := medianAdmission(t, dialer, d, r.greeting, forgedVisits)
		f := &forger{from: farAddr4, to: d.listen, data: forgedWords, random: seeded()}
		var under time.Duration
		during(t, l, d.listen.Addr(), f.next, forgedRate, func() {
			under = medianAdmission(t, dialer, d, r.greeting, forgedVisits)
		})
		r.onlyClients(t)
		t.Logf("median %v, under attack %v", before, under)
		if under > before+attackSlack {
			t.Errorf("under attack the median is %v, without it %v", under, before)
		}
	})
}

const (
	// sharedSYNs is how many SYNs are forged within one grant.
	sharedSYNs = 5000
	sharedRate = 20_000
)

// A grant of one use brings at most one connection to the upstream, however many
// SYNs are sent in the client's name.
func TestForgedSYNsDialTheUpstreamOnceForAGrant(t *testing.T) {
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		end := distant(t, l, nil)
		r := recordUpstream(t, l)
		d := hiddenAt("10.77.0.1:8002", "knock", r.addr, protocol.MethodUDP)
		l.NewSite(t, program.get(t), attackText("", d)).Start(t)
		if err := alice(l.Client).Knock(t.Context(), d.listen, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * attackDelay)
		end() // nothing resets what is forged
		random, n := seeded(), 0
		next := func(b []byte) int {
			if n++; n > sharedSYNs {
				return 0
			}
			src := netip.AddrPortFrom(farAddr4, uint16(1024+n))
			s := lab.Segment{Src: src, Dst: d.listen, Seq: random.Uint32(), Flags: lab.SYN}
			return len(s.Append(b[:0]))
		}
		during(t, l, d.listen.Addr(), next, sharedRate, func() { time.Sleep(2 * time.Second) })
		dialled, _ := r.connections()
		if dialled > 1 {
			t.Errorf("%d connections to the upstream for a grant of one use", dialled)
		}
		t.Logf("%d SYNs, %d connections to the upstream", n-1, dialled)
	})
}

// scarceRate is enough, in SYNs a second, for dozens within a round trip.
const scarceRate = 1000

// SYNs in a client's name may cost it a round trip, for which it knocks again,
// and keep it out of nothing.
func TestForgedSYNsKeepNoClientOut(t *testing.T) {
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		d := hiddenAt("10.77.0.1:8003", "knock-auth", r.addr, protocol.MethodUDP)
		l.NewSite(t, program.get(t), attackText("", d)).Start(t)
		dialer := attackedDialer(t, l, d, protocol.MethodUDP)
		before := medianAdmission(t, dialer, d, r.greeting, forgedVisits)
		f := &forger{from: farAddr4, to: d.listen}
		var under time.Duration
		sent := during(t, l, d.listen.Addr(), f.next, scarceRate, func() {
			under = medianAdmission(t, dialer, d, r.greeting, forgedVisits)
		})
		r.onlyClients(t)
		t.Logf("median %v, under attack %v, %d SYNs", before, under, sent)
	})
}
