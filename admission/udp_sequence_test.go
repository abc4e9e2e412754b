package admission

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// permutations returns all orders of n elements.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, o := range permutations(n - 1) {
		for at := range n {
			p := append(append([]int{}, o[:at]...), n-1)
			all = append(all, append(p, o[at:]...))
		}
	}
	return all
}

func TestUDPSequenceInAnyOrder(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		for n, order := range permutations(3) {
			peer := peer.spoofed(n)
			for i, index := range order {
				b := packettest.UDP{
					Src: netip.AddrPortFrom(peer.addr, uint16(1000*i+n+1)), Dst: netip.AddrPortFrom(peer.gateway(), testKnockPort),
					Payload: peer.payload(peer.udpPart(alice, "ssh", fmt.Sprint(addr, order), index, 3)),
				}.Packet()
				want := knock.Incomplete
				if i == 2 {
					want = knock.OK
				}
				if got := h.knockResult(b); got != want {
					t.Fatalf("%v, part %d: %v, want %v", order, index, got, want)
				}
				h.Advance(80 * time.Millisecond)
			}
			peer.wantGrants(1)
			h.want(peer.syn(40000, "ssh"), ReasonGrant)
		}
	})
}

func TestUDPSequenceLength(t *testing.T) {
	for length := protocol.MinSequence; length <= protocol.MaxSequence; length++ {
		h := newHarness(t, allMethods(withSequenceLength(length), withMethods(policy.MethodUDPSeq)))
		peer := h.peer("192.0.2.1")
		for total := protocol.MinSequence; total <= protocol.MaxSequence; total++ {
			id := fmt.Sprintf("of %d", total)
			for i := range total {
				want := knock.Incomplete
				switch {
				case total != length:
					want = knock.Malformed
				case i == total-1:
					want = knock.OK
				}
				if got := h.knockResult(peer.udpPart(alice, "db", id, i, total)); got != want {
					t.Fatalf("%d of %d where %d are wanted: %v, want %v", i, total, length, got, want)
				}
			}
		}
		peer.wantGrants(1)
	}
}

func TestUDPSequenceWindow(t *testing.T) {
	passive := func(m *protocol.KnockMessage) { m.Method = protocol.MethodUDPPassiveSeq }
	for _, c := range []struct {
		name string
		last func(peer testPeer) []byte // after parts 0 and 1
		want knock.Result
	}{
		{"valid", func(peer testPeer) []byte { return peer.udpPart(alice, "db", "id", 2, 3) }, knock.OK},
		{"in the passive form", func(peer testPeer) []byte { return peer.udpPart(alice, "db", "id", 2, 3, passive) }, knock.OK},
		{"of another session", func(peer testPeer) []byte {
			return peer.udpPart(alice, "db", "id", 2, 3, func(m *protocol.KnockMessage) { m.SessionID = []byte("another session of hers") })
		}, knock.Malformed},
		{"of another sequence", func(peer testPeer) []byte { return peer.udpPart(alice, "db", "other", 2, 3) }, knock.Incomplete},
		{"of another client", func(peer testPeer) []byte { return peer.udpPart(bob, "db", "id", 2, 3) }, knock.Incomplete},
		{"for another service", func(peer testPeer) []byte { return peer.udpPart(alice, "ssh", "id", 2, 3) }, knock.Incomplete},
		{"from another address", func(peer testPeer) []byte { return peer.spoofed(1).udpPart(alice, "db", "id", 2, 3) }, knock.Incomplete},
		{"one that was there", func(peer testPeer) []byte { return peer.udpPart(alice, "db", "id", 1, 3) }, knock.Incomplete},
		{"just in time", func(peer testPeer) []byte {
			peer.h.Advance(policy.DefaultSequenceWindow)
			return peer.udpPart(alice, "db", "id", 2, 3)
		}, knock.OK},
		{"too late", func(peer testPeer) []byte {
			peer.h.Advance(policy.DefaultSequenceWindow + 1)
			return peer.udpPart(alice, "db", "id", 2, 3)
		}, knock.Incomplete},
		{"by the method of a single knock", func(peer testPeer) []byte {
			return peer.udpPart(alice, "db", "id", 2, 3, func(m *protocol.KnockMessage) { m.Method = protocol.MethodUDP })
		}, knock.MethodRefused},
	} {
		h := newHarness(t, allMethods())
		peer := h.peer("192.0.2.1")
		for i := range 2 {
			if got := h.knockResult(peer.udpPart(alice, "db", "id", i, 3)); got != knock.Incomplete {
				t.Fatal(got)
			}
		}
		if got := h.knockResult(c.last(peer)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		grants := 0
		if c.want == knock.OK {
			grants = 1
		}
		peer.wantGrants(grants)
	}
}

func TestUDPSequencePartAloneIsRejected(t *testing.T) {
	h := newHarness(t, allMethods(withMethods(policy.MethodUDP)))
	peer := h.peer("192.0.2.1")
	if got := h.knockResult(peer.udpPart(alice, "db", "id", 0, 3)); got != knock.MethodRefused {
		t.Error(got)
	}
	h = newHarness(t, allMethods(withMethods(policy.MethodUDPSeq)))
	peer = h.peer("192.0.2.1")
	if got := h.knockResult(peer.knock(alice, "db")); got != knock.MethodRefused {
		t.Error(got)
	}
}

func TestUDPSequenceFinishedPartsAreReplays(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	var sent [][]byte
	for i := range 3 {
		sent = append(sent, peer.udpPart(alice, "db", "id", i, 3))
		h.knockResult(sent[i])
	}
	if h.lastKnock() != knock.OK {
		t.Fatal(h.lastKnock())
	}
	for i, b := range append(sent, peer.spoofed(1).readdress(sent[0])) {
		if got := h.knockResult(b); got != knock.Replayed {
			t.Errorf("datagram %d again: %v", i, got)
		}
	}
	for i := range 3 {
		if got := h.knockResult(peer.udpPart(alice, "db", "id", i, 3)); got != knock.Replayed {
			t.Errorf("part %d, sealed again: %v", i, got)
		}
	}
	peer.wantGrants(1)
}

func TestUDPSequenceLimits(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	begin := func(peer testPeer, n int) knock.Result {
		h.Advance(5 * time.Millisecond)
		return h.knockResult(peer.udpPart(alice, "db", fmt.Sprint("no. ", n), 0, 3))
	}
	for n := range knock.UDPSequencesPerSource {
		if got := begin(peer, n); got != knock.Incomplete {
			t.Fatalf("no. %d: %v", n, got)
		}
	}
	if got := begin(peer, 8); got != knock.LimitReached {
		t.Errorf("one too many: %v", got)
	}
	if got := begin(peer.spoofed(1), 8); got != knock.Incomplete {
		t.Errorf("another host's: %v", got)
	}
	// Expired sequences make room at once, even before a sweep.
	h.Advance(policy.DefaultSequenceWindow + time.Second)
	if got := begin(peer, 9); got != knock.Incomplete {
		t.Errorf("when the others were over: %v", got)
	}
	h.Advance(time.Minute)
	h.worker.Sweep()
	if err := h.worker.CheckEmpty(); err != nil {
		t.Error(err)
	}
}

func TestUDPSequenceFinishedIsFree(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	// The clients of an office share one address and connect thirty times
	// within a second.
	for n := range 30 {
		for i := range 3 {
			got, want := h.knockResult(peer.udpPart(alice, "db", fmt.Sprint("no. ", n), i, 3)), knock.Incomplete
			if i == 2 {
				want = knock.OK
			}
			if got != want {
				t.Fatalf("no. %d, part %d: %v, want %v", n, i, got, want)
			}
			h.Advance(10 * time.Millisecond)
		}
	}
	peer.wantGrants(30)
}

func TestKnockPorts(t *testing.T) {
	for _, shared := range []bool{true, false} {
		h := newHarness(t, allMethods(func(o *policy.Options) {
			if !shared {
				o.KnockPort = 0
			}
		}))
		peer := h.peer("192.0.2.1")
		for n, service := range []string{"ssh", "db", "many"} {
			peer := peer.spoofed(n)
			to := func(b []byte) []byte {
				if shared {
					return b
				}
				return peer.udp(peer.server(service).Port(), peer.payload(b))
			}
			for i := range 3 {
				h.knockResult(to(peer.udpPart(alice, service, "id", i, 3)))
			}
			h.knockResult(to(peer.knock(alice, service)))
			h.knockResult(to(peer.v2(alice, service)))
			peer.wantGrants(3)
			h.want(peer.syn(1, service), ReasonGrant)
			for _, other := range []string{"ssh", "db", "many"} {
				if other != service {
					h.want(peer.syn(1, other), ReasonNoGrant)
				}
			}
			if !shared {
				// At another service's port it belongs to no client.
				b := peer.knock(alice, service)
				if got := h.knockResult(peer.udp(peer.server([]string{"db", "many", "ssh"}[n]).Port(), peer.payload(b))); got != knock.UnknownClient {
					t.Errorf("%s at another's port: %v", service, got)
				}
				h.want(peer.v2(alice, service), ReasonNotService)
			}
		}
	}
}
