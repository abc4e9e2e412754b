//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

func TestSequenceLengthIsConfigured(t *testing.T) {
	t.Parallel()
	for _, length := range []int{2, 5} {
		t.Run(fmt.Sprintf("%d parts", length), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
			all := methodEndpoints(s.Addr, protocol.MethodUDPSeq, protocol.MethodUDPPassiveSeq, protocol.MethodTCPSYNSeq)
			// Bob gets the length wrong. As a client of his own he uses no slot
			// of another client.
			alice, bob := newCLIClient(t, l.Client, "alice", aliceSecret), newCLIClient(t, l.Client, "bob", bobSecret)
			text := knocking(fmt.Sprintf("length: %d", length)) + clients(alice, bob) + services(endpointsOf(all)...)
			l.NewSite(t, program.get(t), text).Start(t)
			right, wrong := fmt.Sprintf("--sequence-length=%d", length), fmt.Sprintf("--sequence-length=%d", length-1)
			if length == protocol.MinSequence {
				wrong = fmt.Sprintf("--sequence-length=%d", length+1)
			}
			for _, d := range all {
				if d.method == protocol.MethodTCPSYNSeq && length == protocol.MinSequence {
					continue // its first two parts are a whole sequence
				}
				bob.knock(t, d.listen, d.flags(wrong)...)
			}
			bob.assertRefused(t, endpointsOf(all)...)
			for _, d := range all {
				alice.assertAdmitted(t, d.endpoint, alice.knock(t, d.listen, d.flags(right)...), s.Greeting)
			}
		})
	}
}

func TestLegacySequenceIsAcceptedIfEnabled(t *testing.T) {
	t.Parallel()
	for name, legacy := range map[string]bool{"taken": true, "not taken": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
			all := methodEndpoints(s.Addr, protocol.MethodTCPSYNSeq)
			older, newer := newCLIClient(t, l.Client, "alice", aliceSecret), newCLIClient(t, l.Client, "bob", bobSecret)
			text := knocking(fmt.Sprintf("length: 4, legacy: %v", legacy)) + clients(older, newer) +
				services(endpointsOf(all)...)
			l.NewSite(t, program.get(t), text).Start(t)
			tap := l.Client.Capture(lab.Link)
			for _, d := range all {
				session := older.knock(t, d.listen, d.flags("--sequence-length=4", "--legacy")...)
				if legacy {
					older.assertAdmitted(t, d.endpoint, session, s.Greeting)
				} else {
					older.assertRefused(t, d.endpoint)
				}
				// Each of its ports is the service's own once in 64,511 times.
				if n := len(knockPackets(tap.Packets(), d.listen)); n > 1 {
					t.Errorf("%s: %d of 4 parts went to the service's own port", d.name, n)
				}
				// The spelling of today is as good as ever.
				newer.assertAdmitted(t, d.endpoint, newer.knock(t, d.listen, d.flags("--sequence-length=4")...), s.Greeting)
			}
		})
	}
}
