//go:build linux

package netns_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// v2 is a lab with a gateway before a udp-v2 endpoint of each family.
func v2(t *testing.T) (l *lab.Lab, gateway *lab.Gateway, alice cliClient, greeting string, all []methodEndpoint) {
	t.Helper()
	l = lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all = methodEndpoints(s.Addr, protocol.MethodUDPv2)
	for i := range all {
		all[i].extra = nil // one use: what it leaves over would be the neighbour's to find
	}
	alice = newCLIClient(t, l.Client, "alice", aliceSecret)
	text := knocking("length: 3") + clients(alice) + services(endpointsOf(all)...)
	return l, l.NewSite(t, program.get(t), text).Start(t), alice, s.Greeting, all
}

// knocked is how many udp-v2 knocks have ended in a result.
func knocked(gateway *lab.Gateway, result string) int {
	return int(gateway.Metrics()[fmt.Sprintf("knockgw_knocks_total{method=%q,result=%q}", protocol.MethodUDPv2, result)])
}

func TestBoundKnockRejectsOtherAddress(t *testing.T) {
	t.Parallel()
	l, gateway, alice, greeting, all := v2(t)
	tap := l.Client.Capture(lab.Link)
	for i, d := range all {
		neighbour := l.Client.Other(d.listen.Addr())
		here, there := alice.peer(), alice.peer()
		there.From = neighbour

		// Sent from the address that it is bound to.
		session := alice.knock(t, d.listen, d.flags("--bind-source")...)
		d.assertShut(t, there, nil)
		alice.assertAdmitted(t, d.endpoint, session, greeting)

		// A knock of the neighbour's that has been caught on its way: it opens
		// nothing for the host that forwards it, and the neighbour's own still
		// opens his endpoint.
		port := d.listen.Port()
		session = alice.knock(t, d.listen,
			d.flags("--bind-source="+neighbour.String(), "--udp-port", fmt.Sprint(port))...)
		d.assertShut(t, here, nil)
		d.assertShut(t, there, nil)
		if got, want := knocked(gateway, "source"), i+1; got != want {
			t.Errorf("%s: %d knocks were refused for their source, want %d", d.name, got, want)
		}
		caught := knockPackets(tap.Packets(), d.listen)
		if len(caught) != 1 {
			t.Fatalf("%s: the tap has %d packets of the knock", d.name, len(caught))
		}
		if err := l.Client.Inject(d.listen.Addr(), from(t, caught[0], neighbour)); err != nil {
			t.Fatal(err)
		}
		conn, err := d.enterAs(withTimeout(t, admitTime), there, session)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, conn, "hello"); got != greeting {
			t.Errorf("%s: the upstream answered %q", d.name, got)
		}
		closeConn(t, conn)
	}
}

func TestBoundKnockRejectsOtherPort(t *testing.T) {
	t.Parallel()
	_, _, alice, greeting, all := v2(t)
	for i, d := range all {
		port := fmt.Sprintf("--bind-port=%d", 50123+i) // the last one's is in TIME_WAIT
		session := hex.EncodeToString(alice.knock(t, d.listen, d.flags(port)...))
		alice.assertRefused(t, d.endpoint) // from a port that the kernel has chosen
		alice.assertReaches(t, d.endpoint, greeting, "--no-knock", "--session", session, "--method", d.method, port)
		alice.assertReaches(t, d.endpoint, greeting, d.flags("--bind-port", "--bind-source")...) // one step, a port of its choice
	}
}

func TestKnockForOtherGatewayOpensNothing(t *testing.T) {
	t.Parallel()
	_, gateway, alice, greeting, all := v2(t)
	for _, d := range all {
		alice.knock(t, d.listen, "--method", d.method)
		alice.knock(t, d.listen, "--method", d.method, "--gateway", "other."+gatewayName)
		alice.knock(t, d.listen, d.flags("--port", fmt.Sprint(d.listen.Port()+1))...)
		alice.assertRefused(t, d.endpoint)
		alice.assertAdmitted(t, d.endpoint, alice.knock(t, d.listen, d.flags()...), greeting)
	}
	if got := knocked(gateway, "ok"); got != len(all) {
		t.Errorf("%d knocks were good, want %d", got, len(all))
	}
}
