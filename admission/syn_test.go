package admission

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/testclock"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func TestSYNKnockAcceptedSlots(t *testing.T) {
	forEachFamily(func(addr string) {
		for off := int64(-3); off <= 3; off++ {
			h := newHarness(t, allMethods())
			peer := h.peer(addr)
			b := peer.synKnock(alice, "ssh", off)
			if off < -1 || off > 1 {
				h.want(b, ReasonNoGrant) // a SYN like any other
				h.wantEmpty()
				continue
			}
			h.want(b, ReasonKnock)
			h.decide()
			if got := h.lastKnock(); got != knock.OK {
				t.Fatalf("slot %+d: %v", off, got)
			}
			if e := h.events[0]; e.Client != "alice" || e.Service != "ssh"+addressFamily(peer) || e.Method != protocol.MethodTCPSYN {
				t.Errorf("%+v", e)
			}
			h.want(peer.spoofed(1).syn(40000, "ssh"), ReasonNoGrant)
			h.want(peer.syn(40000, "ssh"), ReasonGrant)
			peer.mustEnter(40000, "ssh", alice)
		}
	})
}

func TestTableFindsSlotsWhenLate(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	// Made in this slot, it arrives in the next one and in the one after, while
	// the table has not been rebuilt.
	b := peer.synKnock(alice, "db", 0)
	h.Advance(testWindow)
	h.want(b, ReasonKnock)
	h.decide()
	peer.wantGrants(1)
	h.Advance(testWindow)
	h.want(b, ReasonNoGrant)
	h.rotateTable()
	h.want(b, ReasonNoGrant)
	h.want(peer.synKnock(alice, "db", 1), ReasonKnock)
}

func TestSYNKnockNeedsAllFields(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		f := peer.synFields(alice, "ssh", 0)
		as := func(change func(*packettest.TCP)) []byte {
			p := peer.fieldsAs(f, peer.server("ssh"))
			change(&p)
			return p.Packet()
		}
		broken := as(func(*packettest.TCP) {})
		broken[len(broken)-1] ^= 1 // of TSecr
		short := timestamps(f.TSVal)
		short[3] = 9
		for _, c := range []struct {
			name string
			b    []byte
			want Reason
		}{
			{"without options", as(func(p *packettest.TCP) { p.Options = nil }), ReasonNoGrant},
			{"with other options", as(func(p *packettest.TCP) { p.Options = []byte{2, 4, 5, 180} }), ReasonNoGrant},
			{"with an option cut off", as(func(p *packettest.TCP) { p.Options = []byte{1, 1, 8, 10} }), ReasonNoGrant},
			{"with an option too short", as(func(p *packettest.TCP) { p.Options = short }), ReasonNoGrant},
			{"with an option of no length", as(func(p *packettest.TCP) { p.Options = []byte{5, 0, 8, 10} }), ReasonNoGrant},
			{"behind the end of options", as(func(p *packettest.TCP) {
				p.Options = append([]byte{0, 0}, timestamps(f.TSVal)[2:]...)
			}), ReasonNoGrant},
			{"with another sequence number", as(func(p *packettest.TCP) { p.Seq++ }), ReasonNoGrant},
			{"with another window", as(func(p *packettest.TCP) { p.Window ^= 2 }), ReasonNoGrant},
			{"with another TSval", as(func(p *packettest.TCP) { p.Options = timestamps(f.TSVal + 1) }), ReasonNoGrant},
			{"with ACK", as(func(p *packettest.TCP) { p.Flags |= packet.ACK }), ReasonNoFlow},
			{"with RST", as(func(p *packettest.TCP) { p.Flags |= packet.RST }), ReasonNoFlow},
			{"with FIN", as(func(p *packettest.TCP) { p.Flags |= packet.FIN }), ReasonNoFlow},
			{"without SYN", as(func(p *packettest.TCP) { p.Flags = 0 }), ReasonNoFlow},
			{"to another service", as(func(p *packettest.TCP) { p.Dst = peer.server("db") }), ReasonNoGrant},
			{"to a port without service", as(func(p *packettest.TCP) { p.Dst = netip.AddrPortFrom(peer.gateway(), 23) }), ReasonNotService},
			{"of a client is unknown", peer.synKnock(carol, "ssh", 0), ReasonNoGrant},
			{"with a bad checksum", broken, ReasonMalformed},
		} {
			if got := h.admit(c.b); got.Reason != c.want {
				t.Errorf("%s: %v, want %v", c.name, got.Reason, c.want)
			}
		}
		h.decide()
		h.wantEmpty()
		h.want(as(func(p *packettest.TCP) {
			p.Options = append([]byte{2, 4, 5, 180, 3, 3, 7, 1}, timestamps(f.TSVal)[2:]...)
			p.Options = append(p.Options, 1, 0)
		}), ReasonKnock)
		h.decide()
		peer.wantGrants(1)
	})
}

func TestSYNKnockIsNeverPassed(t *testing.T) {
	// Nor to an open service, nor with a grant there.
	for _, service := range []string{"ssh", "db", "vpn"} {
		h := newHarness(t, allMethods())
		peer := h.peer("192.0.2.1")
		b := peer.synKnock(alice, service, 0)
		for range 5 {
			h.want(b, ReasonKnock)
			h.decide()
			var p packet.Packet
			p.Data = b
			p.Parse()
			answer := packettest.TCP{
				Src: p.Tuple.Destination(), Dst: p.Tuple.Source(), Flags: packet.SYN | packet.ACK, Seq: 1, Ack: p.Seq + 1,
			}
			if h.egress(answer.Packet()) {
				t.Fatalf("%s: the knock is answered", service)
			}
		}
		if len(h.delivered) != 0 || h.gate.Stats().Flows != 0 {
			t.Errorf("%s: the knock is a connection", service)
		}
	}
}

func TestSYNKnockReuse(t *testing.T) {
	for service, most := range map[string]int{"ssh": 1 + knock.MaxReuse, "db": 1} {
		h := newHarness(t, allMethods())
		peer := h.peer("192.0.2.1")
		b := peer.synKnock(alice, service, 0)
		for i := range 12 {
			want := knock.OK
			if i >= most {
				want = knock.Repeated
			}
			if got := h.knockResult(b); got != want {
				t.Errorf("%s, time %d: %v, want %v", service, i+1, got, want)
			}
		}
		peer.wantGrants(most)
		// From another port it is still the same pair: a second connection.
		h.Advance(testTTL + testDeadline + time.Second)
		h.sweep()
		peer.wantGrants(0)
	}
}

func TestSYNKnockBindsAddresses(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		b := peer.synKnock(alice, "ssh", 0)
		h.want(b, ReasonKnock)
		thief := peer.spoofed(1)
		h.want(thief.readdress(b), ReasonKnock) // in the same batch
		h.decide()
		if h.events[0].Result != knock.OK || h.events[1].Result != knock.Replayed {
			t.Fatalf("%+v", h.events)
		}
		thief.wantGrants(0)
		h.want(thief.syn(40000, "ssh"), ReasonNoGrant)
		other := peer.synAs(peer.synFields(alice, "ssh", 0), netip.AddrPortFrom(peer.gateway().Next(), 22))
		if got := h.knockResult(other); got != knock.Replayed {
			t.Errorf("to another address: %v", got)
		}
		peer.wantGrants(1)
		// As long as the slot is accepted; the knock of the next slot is
		// another one.
		h.Advance(testWindow)
		h.rotateTable()
		if got := h.knockResult(thief.readdress(b)); got != knock.Replayed {
			t.Errorf("a slot later: %v", got)
		}
		if got := h.knockResult(thief.synKnock(alice, "ssh", 0)); got != knock.OK {
			t.Errorf("the next slot's: %v", got)
		}
		h.Advance(testWindow)
		h.want(thief.readdress(b), ReasonNoGrant)
	})
}

func TestSYNKnockReplayAfterRestart(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	file := func(o *Options) {
		o.Store, o.Now, o.Mono = openFile(t, dir, storeOptions(clocks)), clocks.Now, clocks.Mono
	}
	h := newHarness(t, allMethods(), file)
	peer := h.peer("192.0.2.1")
	single := peer.synKnock(alice, "ssh", 0)
	sequence := [][]byte{peer.synPart(alice, "db", 0, 0), peer.synPart(alice, "db", 0, 1), peer.synPart(alice, "db", 0, 2)}
	present := func(peer testPeer) (one, three knock.Result) {
		one = peer.h.knockResult(peer.readdress(single))
		for _, b := range sequence {
			three = peer.h.knockResult(peer.readdress(b))
		}
		return one, three
	}
	if one, three := present(peer); one != knock.OK || three != knock.OK {
		t.Fatal(one, three)
	}
	_ = h.gate.store.Close()
	h = newHarness(t, allMethods(), file)
	// Also from its owner: the store does not know the source.
	for _, addr := range []string{"192.0.2.1", "198.51.100.7"} {
		if one, three := present(h.peer(addr)); one != knock.Replayed || three != knock.Replayed {
			t.Errorf("%s: %v, %v", addr, one, three)
		}
	}
}

func TestSYNKnockOutsideSchedule(t *testing.T) {
	for name, change := range map[string]func(*policy.Client, time.Time){
		"expired":        func(c *policy.Client, now time.Time) { c.Expires = now },
		"secret is over": func(c *policy.Client, now time.Time) { c.Keys[0].Until = now },
		"out of hours":   func(c *policy.Client, _ time.Time) { c.Hours = func(time.Time) bool { return false } },
	} {
		h := newHarness(t, allMethods(), func(o *Options) {
			c := policy.NewClient(alice)
			change(c, o.Now())
			allMethods(withClients(c))(o)
		})
		peer := h.peer("192.0.2.1")
		if got := h.knockResult(peer.synKnock(alice, "db", 0)); got != knock.OutsideSchedule {
			t.Errorf("%s: %v", name, got)
		}
		h.wantEmpty()
	}
}

func TestSYNKnockPerSecret(t *testing.T) {
	newer := testSecret("alice", 2)
	c := &policy.Client{ID: "alice", Keys: []policy.Key{{Identity: alice}, {Identity: newer}}}
	h := newHarness(t, allMethods(withClients(c)))
	// Two devices, while the secret is being changed.
	for i, id := range []*protocol.Client{alice, newer} {
		peer := h.peer("192.0.2.1").spoofed(i)
		if got := h.knockResult(peer.synKnock(id, "db", 0)); got != knock.OK {
			t.Errorf("with secret %d: %v", i+1, got)
		}
		for part := range 3 {
			got, want := h.knockResult(peer.synPart(id, "db", 0, part)), knock.Incomplete
			if part == 2 {
				want = knock.OK
			}
			if got != want {
				t.Errorf("part %d with secret %d: %v, want %v", part, i+1, got, want)
			}
		}
	}
}

func TestSYNKnockWithSharedStore(t *testing.T) {
	store := replay.NewMemoryStore(storeOptions(testclock.New()))
	share := func(o *Options) { o.Store = store }
	one, two := newHarness(t, allMethods(), share), newHarness(t, allMethods(), share)
	b := one.peer("192.0.2.1").synKnock(alice, "ssh", 0)
	if got := one.knockResult(b); got != knock.OK {
		t.Fatal(got)
	}
	if got := two.knockResult(b); got != knock.Replayed {
		t.Errorf("at the other gate: %v", got)
	}
}

// addressFamily returns the suffix of the names of services in peer's family.
func addressFamily(peer testPeer) string {
	if peer.addr.Is4() {
		return "4"
	}
	return "6"
}

// testSecret returns a client of the same name with another secret.
func testSecret(id string, n int) *protocol.Client {
	c, err := protocol.NewClient(id, []byte{byte(n), 15: 1, 31: 0})
	if err != nil {
		panic(err)
	}
	return c
}

func TestSYNKnockFromFlowPort(t *testing.T) {
	for _, service := range []string{"db", "vpn"} {
		h := newHarness(t, allMethods())
		peer := h.peer("192.0.2.1")
		peer.mustKnock(alice, service, "")
		h.admit(peer.syn(40000, service))
		peer.mustEnter(40000, service, alice)
		p := peer.fieldsAs(peer.synFields(bob, service, 0), peer.server(service))
		p.Src = netip.AddrPortFrom(peer.addr, 40000)
		if got := h.knockResult(p.Packet()); got != knock.OK {
			t.Errorf("%s: %v", service, got)
		}
		h.want(peer.syn(40000, service), ReasonFlow)
		h.want(peer.tcp(40000, service, packet.ACK, 1001, 1, "data"), ReasonFlow)
	}
}
