//go:build linux

package netns_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

func TestFragmentsOfSessionReachUpstream(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	const long = 1900 // bytes: more than a link's MTU, and the answer fits into what the tap keeps of a packet
	for _, d := range all {
		for _, how := range []struct {
			name    string
			size    int
			offsets []int
			order   []int
		}{
			{"in two pieces", 60, []int{0, 40}, []int{0, 1}},
			{"in two pieces the wrong way round", 60, []int{0, 40}, []int{1, 0}},
			{"in four pieces mixed and doubled", 100, []int{0, 40, 64, 88}, []int{2, 0, 3, 0, 2, 1}},
			{"longer than the MTU", long, []int{0, 800, 1600}, []int{0, 1, 2}},
		} {
			t.Run(d.name+" "+how.name, func(t *testing.T) {
				taken := d.takeOver(t, l, s.Greeting)
				text := fmt.Sprintf("%0*d", how.size, taken.src.Port()) // like nothing that was said before
				pieces := cut(t, taken.segment(t, "echo "+text+"\n"), how.offsets...)
				for _, i := range how.order {
					inject(t, l.Client, d.listen.Addr(), pieces[i])
				}
				if !taken.answered(text, answerTime) {
					t.Error("the upstream did not answer")
				}
			})
		}
	}
}

func TestFragmentsThatOverlapAreDropped(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	gateway := site.Start(t)
	for i, d := range all {
		taken := d.takeOver(t, l, s.Greeting)
		packet := taken.segment(t, "echo "+strings.Repeat("overlapping ", 10)+"\n")
		id := uint32(1000 + i)
		narrow, wide := cutAs(t, packet, id, 0, 64, 96), cutAs(t, packet, id, 0, 72, 96)
		inject(t, l.Client, d.listen.Addr(), wide[0], narrow[1], narrow[2])
		if taken.answered("overlapping", refuseTime) {
			t.Errorf("%s: overlapping fragments were put together", d.name)
		}
		if got := ask(t, taken.conn, "echo still here"); got != "still here" {
			t.Errorf("%s: the upstream answered %q", d.name, got)
		}
	}
	sample := `knockgw_packets_total{reason="malformed-fragment-overlap",verdict="drop"}`
	if got := gateway.Metrics()[sample]; got < float64(len(all)) {
		t.Errorf("%s is %v", sample, got)
	}
}

// With a grant, and with a flow from the same address, for which fragments are
// put together: a SYN in pieces begins nothing.
func TestFragmentedSYNIsDropped(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	site.Start(t)
	for _, d := range all {
		if !d.hidden() {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			d.takeOver(t, l, s.Greeting)
			tap := l.Client.Capture(lab.Link)
			session := lab.NewSession()
			if err := alice(l.Client).Knock(t.Context(), d.listen, session); err != nil {
				t.Fatal(err)
			}
			src := netip.AddrPortFrom(l.Client.Addr(d.listen.Addr()), 40001)
			syn := tcpSegment(t, src, d.listen, layers.TCP{SYN: true, Seq: 1000, Window: 1024},
				[]byte("data in a SYN, so that there is something to cut"))
			for _, offsets := range [][]int{{0, 8}, {0, 16}, {0, 24}} {
				inject(t, l.Client, d.listen.Addr(), cut(t, syn, offsets...)...)
			}
			time.Sleep(refuseTime)
			for _, p := range tap.Stop() {
				if tcp := p.TCP(); tcp != nil && p.Src == d.listen.Addr() && uint16(tcp.DstPort) == src.Port() {
					t.Errorf("a SYN in fragments was answered:\n%v", p)
				}
			}
			// The grant is there for a SYN in one piece.
			conn, err := d.enterAs(withTimeout(t, admitTime), alice(l.Client), session)
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

func TestFragmentedKnockIsDropped(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := methodEndpoints(s.Addr, protocol.MethodUDP, protocol.MethodUDPv2, protocol.MethodTCPSYN)
	alice := newCLIClient(t, l.Client, "alice", aliceSecret)
	site := l.NewSite(t, program.get(t), knocking("length: 3")+clients(alice)+services(endpointsOf(all)...))
	// The gateway gets the very packets that the program sends, but not before
	// they are cut: it is not there yet, and no answer says so.
	site.Start(t).Stop()
	tap := l.Client.Capture(lab.Link)
	sessions := make(map[string][]byte)
	for _, d := range all {
		sessions[d.name] = alice.knock(t, d.listen, d.flags("--udp-port", fmt.Sprint(d.listen.Port()))...)
	}
	knocks := tap.Stop()
	site.Start(t)
	for _, d := range all {
		for _, p := range knockPackets(knocks, d.listen) {
			packet := from(t, p, p.Src)
			for _, offsets := range [][]int{{0, 8}, {0, 16}, {0, 24}} {
				inject(t, l.Client, d.listen.Addr(), cut(t, packet, offsets...)...)
			}
		}
	}
	alice.assertRefused(t, endpointsOf(all)...)
	for _, d := range all {
		for _, p := range knockPackets(knocks, d.listen) {
			inject(t, l.Client, d.listen.Addr(), from(t, p, p.Src))
		}
		alice.assertAdmitted(t, d.endpoint, sessions[d.name], s.Greeting)
	}
}
