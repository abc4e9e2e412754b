//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// families are the methods without those that differ in a text alone.
func families() []string {
	return []string{protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq,
		protocol.MethodUDPv2}
}

// Two secrets of one client, one of them over: the change from the one to the
// other, on the day after.
func TestSecretExpires(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, families()...)
	const ended, current = "the secret of the year before", "the secret of this year and on"
	late, early := newCLIClient(t, l.Client, "alice", ended), newCLIClient(t, l.Client, "alice", current)
	text := knocking("length: 3") + fmt.Sprintf(`clients:
  - id: alice
    secrets:
      - {secret: %q, until: 2020-12-31}
      - {secret: %q, until: 2300-12-31}
`, ended, current) + services(endpointsOf(all)...)
	l.NewSite(t, program.get(t), text).Start(t)
	for _, d := range all {
		late.knock(t, d.listen, d.flags()...)
	}
	late.assertRefused(t, endpointsOf(all)...)
	var mute sync.WaitGroup
	for _, d := range all {
		session := early.knock(t, d.listen, d.flags()...)
		// A good knock does not make the old secret one to authenticate with.
		conn, err := early.peer().Dial(withTimeout(t, admitTime), d.listen)
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		auth := d.auth(t, late.peer(), session)
		mute.Go(func() { d.assertMute(t, conn, auth) })
		early.assertAdmitted(t, d.endpoint, session, s.Greeting)
	}
	mute.Wait()
}

// While a secret is being changed both are good, by every method: also by those
// with one knock per slot.
func TestSecretsOfClientOverlap(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, families()...)
	const one, other = "the one secret of sixteen and more", "the other secret of sixteen and more"
	text := knocking("length: 3") + fmt.Sprintf("clients:\n  - {id: alice, secrets: [{secret: %q}, {secret: %q, until: 2300-12-31}]}\n",
		one, other) + services(endpointsOf(all)...)
	l.NewSite(t, program.get(t), text).Start(t)
	for _, secret := range []string{one, other} {
		alice := newCLIClient(t, l.Client, "alice", secret)
		for _, d := range all {
			alice.assertAdmitted(t, d.endpoint, alice.knock(t, d.listen, d.flags()...), s.Greeting)
		}
	}
}

func TestClientReachesOnlyItsServices(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, families()...)
	alice, bob := newCLIClient(t, l.Client, "alice", aliceSecret), newCLIClient(t, l.Client, "bob", bobSecret)
	may := map[cliClient][]methodEndpoint{}
	for i, d := range all {
		who := []cliClient{alice, bob}[i%2]
		may[who] = append(may[who], d)
	}
	var text strings.Builder
	text.WriteString(knocking("length: 3") + "clients:\n")
	for who, endpoints := range may {
		fmt.Fprintf(&text, "  - {id: %s, secret: %q, services: [", who.id, who.secret)
		for _, d := range endpoints {
			fmt.Fprintf(&text, "%s, ", d.name)
		}
		text.WriteString("]}\n")
	}
	text.WriteString(services(endpointsOf(all)...))
	l.NewSite(t, program.get(t), text.String()).Start(t)
	for who, endpoints := range may {
		var others []endpoint
		for _, d := range all {
			if !slices.ContainsFunc(endpoints, func(own methodEndpoint) bool { return own.name == d.name }) {
				who.knock(t, d.listen, d.flags()...)
				others = append(others, d.endpoint)
			}
		}
		who.assertRefused(t, others...)
	}
	for who, endpoints := range may {
		for _, d := range endpoints {
			who.assertAdmitted(t, d.endpoint, who.knock(t, d.listen, d.flags()...), s.Greeting)
		}
	}
}

const failuresToBan = 3

// fail makes a peer fail to authenticate at an open endpoint, n times in
// parallel, to the end.
func (d endpoint) fail(t *testing.T, v lab.Peer, n int) {
	t.Helper()
	v.Secret = []byte("not a valid secret")
	var failing sync.WaitGroup
	for range n {
		failing.Go(func() {
			conn, err := v.Dial(withTimeout(t, admitTime), d.listen)
			if err != nil {
				t.Errorf("%s, which answers all sources, did not: %v", d.name, err)
				return
			}
			auth, err := v.AuthFor(d.listen, nil)
			if err != nil {
				t.Error(err)
			}
			d.assertMute(t, conn, auth)
		})
	}
	failing.Wait()
}

func TestBanSparesNeighbourThatKnocks(t *testing.T) {
	t.Parallel()
	for family := range hosts() {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
			var open, visible, hidden endpoint
			for _, d := range endpoints(s.Addr) {
				switch d.name {
				case "auth-" + family:
					open = d
				case "knock-auth-visible-" + family:
					visible = d
				case "knock-auth-" + family:
					hidden = d
				}
			}
			text := configuration(open, visible, hidden) +
				fmt.Sprintf("ban: {after: %d, within: 1h, for: 1h}\n", failuresToBan)
			gateway := l.NewSite(t, program.get(t), text).Start(t)

			open.fail(t, alice(l.Attacker), failuresToBan-1)
			if err := open.visit(t.Context(), alice(l.Attacker), s.Greeting); err != nil {
				t.Fatalf("banned one failure early: %v", err)
			}
			open.fail(t, alice(l.Attacker), 1)

			// The ban holds at both endpoints that answer attackers, and shuts
			// in silence.
			for _, d := range []endpoint{open, visible} {
				d.assertBanned(t, alice(l.Attacker))
			}
			// In IPv6 it is the /64's, so that one more address is no way round
			// it; in IPv4 the address's.
			neighbour := alice(l.Attacker)
			neighbour.From = l.Attacker.Other(open.listen.Addr())
			if open.listen.Addr().Is6() {
				open.assertBanned(t, neighbour)
			} else if err := open.visit(t.Context(), neighbour, s.Greeting); err != nil {
				t.Error(err)
			}
			// Other sources are admitted as before, and so are those that knock.
			for _, d := range []endpoint{open, visible, hidden} {
				if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
					t.Error(err)
				}
			}
			for _, d := range []endpoint{visible, hidden} {
				if err := d.visit(t.Context(), alice(l.Attacker), s.Greeting); err != nil {
					t.Error(err)
				}
			}
			if sample := `knockgw_packets_total{reason="banned",verdict="drop"}`; gateway.Metrics()[sample] == 0 {
				t.Errorf("%s is 0", sample)
			}
		})
	}
}

// assertBanned fails the test unless an endpoint that answers all sources does
// not answer the peer.
func (d endpoint) assertBanned(t *testing.T, v lab.Peer) {
	t.Helper()
	d.mode, d.visible = "knock-auth", false
	d.assertShut(t, v, nil)
}

// What does not come back proves nothing about who sent it.
func TestForgedPacketsCauseNoBan(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	open := endpoints(s.Addr)[0]
	text := configuration(open) + fmt.Sprintf("ban: {after: %d, within: 1h, for: 1h}\n", failuresToBan)
	l.NewSite(t, program.get(t), text).Start(t)
	victim := l.Client.Addr(open.listen.Addr())
	for i := range 100 * failuresToBan {
		src := netip.AddrPortFrom(victim, uint16(20000+i))
		for _, p := range []layers.TCP{
			{SYN: true, Seq: 1000, Window: 64240},
			{ACK: true, Seq: 1001, Ack: 2000, Window: 64240},
			{ACK: true, PSH: true, Seq: 1001, Ack: 2000, Window: 64240},
			{ACK: true, FIN: true, Seq: 1037, Ack: 2000, Window: 64240},
		} {
			var payload []byte
			if p.PSH {
				payload = []byte("not an authentication, and too short")
			}
			if err := l.Attacker.Inject(open.listen.Addr(), tcpSegment(t, src, open.listen, p, payload)); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(authDeadline) // what has begun fails by now
	if err := open.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
		t.Error(err)
	}
}
