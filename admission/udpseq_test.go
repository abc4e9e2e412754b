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

// orders are all orders of n things.
func orders(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, o := range orders(n - 1) {
		for at := range n {
			p := append(append([]int{}, o[:at]...), n-1)
			all = append(all, append(p, o[at:]...))
		}
	}
	return all
}

func TestUDPSequenceInAnyOrder(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every())
		v := w.at(addr)
		for n, order := range orders(3) {
			v := v.spoofed(n)
			for i, index := range order {
				b := packettest.UDP{
					Src: netip.AddrPortFrom(v.addr, uint16(1000*i+n+1)), Dst: netip.AddrPortFrom(v.gateway(), testKnockPort),
					Payload: v.payload(v.part(alice, "ssh", fmt.Sprint(addr, order), index, 3)),
				}.Packet()
				want := knock.Incomplete
				if i == 2 {
					want = knock.OK
				}
				if got := w.result(b); got != want {
					t.Fatalf("%v, part %d: %v, want %v", order, index, got, want)
				}
				w.pass(80 * time.Millisecond)
			}
			v.wantGrants(1)
			w.want(v.syn(40000, "ssh"), ReasonGrant)
		}
	})
}

func TestUDPSequenceLength(t *testing.T) {
	for length := protocol.MinSequence; length <= protocol.MaxSequence; length++ {
		w := newHarness(t, every(parts(length), taking(policy.MethodUDPSeq)))
		v := w.at("192.0.2.1")
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
				if got := w.result(v.part(alice, "db", id, i, total)); got != want {
					t.Fatalf("%d of %d where %d are wanted: %v, want %v", i, total, length, got, want)
				}
			}
		}
		v.wantGrants(1)
	}
}

func TestUDPSequenceWindow(t *testing.T) {
	passive := func(m *protocol.KnockMessage) { m.Method = protocol.MethodUDPPassiveSeq }
	for _, c := range []struct {
		name string
		last func(v testPeer) []byte // after parts 0 and 1
		want knock.Result
	}{
		{"as it should be", func(v testPeer) []byte { return v.part(alice, "db", "id", 2, 3) }, knock.OK},
		{"in the passive form", func(v testPeer) []byte { return v.part(alice, "db", "id", 2, 3, passive) }, knock.OK},
		{"of another session", func(v testPeer) []byte {
			return v.part(alice, "db", "id", 2, 3, func(m *protocol.KnockMessage) { m.SessionID = []byte("another session of hers") })
		}, knock.Malformed},
		{"of another sequence", func(v testPeer) []byte { return v.part(alice, "db", "other", 2, 3) }, knock.Incomplete},
		{"of another client", func(v testPeer) []byte { return v.part(bob, "db", "id", 2, 3) }, knock.Incomplete},
		{"for another service", func(v testPeer) []byte { return v.part(alice, "ssh", "id", 2, 3) }, knock.Incomplete},
		{"from another address", func(v testPeer) []byte { return v.spoofed(1).part(alice, "db", "id", 2, 3) }, knock.Incomplete},
		{"one that was there", func(v testPeer) []byte { return v.part(alice, "db", "id", 1, 3) }, knock.Incomplete},
		{"just in time", func(v testPeer) []byte {
			v.w.pass(policy.DefaultSequenceWindow)
			return v.part(alice, "db", "id", 2, 3)
		}, knock.OK},
		{"too late", func(v testPeer) []byte {
			v.w.pass(policy.DefaultSequenceWindow + 1)
			return v.part(alice, "db", "id", 2, 3)
		}, knock.Incomplete},
		{"by the method of a single knock", func(v testPeer) []byte {
			return v.part(alice, "db", "id", 2, 3, func(m *protocol.KnockMessage) { m.Method = protocol.MethodUDP })
		}, knock.MethodRefused},
	} {
		w := newHarness(t, every())
		v := w.at("192.0.2.1")
		for i := range 2 {
			if got := w.result(v.part(alice, "db", "id", i, 3)); got != knock.Incomplete {
				t.Fatal(got)
			}
		}
		if got := w.result(c.last(v)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		grants := 0
		if c.want == knock.OK {
			grants = 1
		}
		v.wantGrants(grants)
	}
}

func TestUDPSequencePartAloneIsRejected(t *testing.T) {
	w := newHarness(t, every(taking(policy.MethodUDP)))
	v := w.at("192.0.2.1")
	if got := w.result(v.part(alice, "db", "id", 0, 3)); got != knock.MethodRefused {
		t.Error(got)
	}
	w = newHarness(t, every(taking(policy.MethodUDPSeq)))
	v = w.at("192.0.2.1")
	if got := w.result(v.knock(alice, "db")); got != knock.MethodRefused {
		t.Error(got)
	}
}

func TestUDPSequenceFinishedPartsAreReplays(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	var sent [][]byte
	for i := range 3 {
		sent = append(sent, v.part(alice, "db", "id", i, 3))
		w.result(sent[i])
	}
	if w.lastKnock() != knock.OK {
		t.Fatal(w.lastKnock())
	}
	for i, b := range append(sent, v.spoofed(1).from(sent[0])) {
		if got := w.result(b); got != knock.Replayed {
			t.Errorf("datagram %d again: %v", i, got)
		}
	}
	for i := range 3 {
		if got := w.result(v.part(alice, "db", "id", i, 3)); got != knock.Replayed {
			t.Errorf("part %d, sealed again: %v", i, got)
		}
	}
	v.wantGrants(1)
}

func TestUDPSequenceLimits(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	begin := func(v testPeer, n int) knock.Result {
		w.pass(5 * time.Millisecond)
		return w.result(v.part(alice, "db", fmt.Sprint("no. ", n), 0, 3))
	}
	for n := range knock.UDPSequencesPerSource {
		if got := begin(v, n); got != knock.Incomplete {
			t.Fatalf("no. %d: %v", n, got)
		}
	}
	if got := begin(v, 8); got != knock.LimitReached {
		t.Errorf("one too many: %v", got)
	}
	if got := begin(v.spoofed(1), 8); got != knock.Incomplete {
		t.Errorf("another host's: %v", got)
	}
	// Those that are over make room at once, though no sweep has run.
	w.pass(policy.DefaultSequenceWindow + time.Second)
	if got := begin(v, 9); got != knock.Incomplete {
		t.Errorf("when the others were over: %v", got)
	}
	w.pass(time.Minute)
	w.worker.Sweep()
	if err := w.worker.CheckEmpty(); err != nil {
		t.Error(err)
	}
}

func TestUDPSequenceFinishedIsFree(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	// An office behind one address connects thirty times within a second.
	for n := range 30 {
		for i := range 3 {
			got, want := w.result(v.part(alice, "db", fmt.Sprint("no. ", n), i, 3)), knock.Incomplete
			if i == 2 {
				want = knock.OK
			}
			if got != want {
				t.Fatalf("no. %d, part %d: %v, want %v", n, i, got, want)
			}
			w.pass(10 * time.Millisecond)
		}
	}
	v.wantGrants(30)
}

func TestKnockPorts(t *testing.T) {
	for _, shared := range []bool{true, false} {
		w := newHarness(t, every(func(o *policy.Options) {
			if !shared {
				o.KnockPort = 0
			}
		}))
		v := w.at("192.0.2.1")
		for n, service := range []string{"ssh", "db", "many"} {
			v := v.spoofed(n)
			to := func(b []byte) []byte {
				if shared {
					return b
				}
				return v.udp(v.server(service).Port(), v.payload(b))
			}
			for i := range 3 {
				w.result(to(v.part(alice, service, "id", i, 3)))
			}
			w.result(to(v.knock(alice, service)))
			w.result(to(v.v2(alice, service)))
			v.wantGrants(3)
			w.want(v.syn(1, service), ReasonGrant)
			for _, other := range []string{"ssh", "db", "many"} {
				if other != service {
					w.want(v.syn(1, other), ReasonNoGrant)
				}
			}
			if !shared {
				// At another service's port it belongs to no client.
				b := v.knock(alice, service)
				if got := w.result(v.udp(v.server([]string{"db", "many", "ssh"}[n]).Port(), v.payload(b))); got != knock.UnknownClient {
					t.Errorf("%s at another's port: %v", service, got)
				}
				w.want(v.v2(alice, service), ReasonNotService)
			}
		}
	}
}
