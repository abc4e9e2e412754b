package admission

import (
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func TestSYNKnockAcceptedSlots(t *testing.T) {
	everywhere(func(addr string) {
		for off := int64(-3); off <= 3; off++ {
			w := newHarness(t, every())
			v := w.at(addr)
			b := v.synKnock(alice, "ssh", off)
			if off < -1 || off > 1 {
				w.want(b, ReasonNoGrant) // a SYN like any other
				w.empty()
				continue
			}
			w.want(b, ReasonKnock)
			w.decide()
			if got := w.lastKnock(); got != knock.OK {
				t.Fatalf("slot %+d: %v", off, got)
			}
			if e := w.events[0]; e.Client != "alice" || e.Service != "ssh"+family(v) || e.Method != protocol.MethodTCPSYN {
				t.Errorf("%+v", e)
			}
			w.want(v.spoofed(1).syn(40000, "ssh"), ReasonNoGrant)
			w.want(v.syn(40000, "ssh"), ReasonGrant)
			v.enters(40000, "ssh", alice)
		}
	})
}

func TestTableFindsSlotsWhenLate(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	// Made in this slot, it arrives in the next one, and in the one after that,
	// while nothing has been computed again.
	b := v.synKnock(alice, "db", 0)
	w.pass(testWindow)
	w.want(b, ReasonKnock)
	w.decide()
	v.wantGrants(1)
	w.pass(testWindow)
	w.want(b, ReasonNoGrant)
	w.turn()
	w.want(b, ReasonNoGrant)
	w.want(v.synKnock(alice, "db", 1), ReasonKnock)
}

func TestSYNKnockNeedsAllFields(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every())
		v := w.at(addr)
		f := v.synFields(alice, "ssh", 0)
		as := func(change func(*packettest.TCP)) []byte {
			p := v.fieldsAs(f, v.server("ssh"))
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
			{"to another service", as(func(p *packettest.TCP) { p.Dst = v.server("db") }), ReasonNoGrant},
			{"to a port without service", as(func(p *packettest.TCP) { p.Dst = netip.AddrPortFrom(v.gateway(), 23) }), ReasonNotService},
			{"of a client is unknown", v.synKnock(carol, "ssh", 0), ReasonNoGrant},
			{"with a bad checksum", broken, ReasonMalformed},
		} {
			if got := w.admit(c.b); got.Reason != c.want {
				t.Errorf("%s: %v, want %v", c.name, got.Reason, c.want)
			}
		}
		w.decide()
		w.empty()
		w.want(as(func(p *packettest.TCP) {
			p.Options = append([]byte{2, 4, 5, 180, 3, 3, 7, 1}, timestamps(f.TSVal)[2:]...)
			p.Options = append(p.Options, 1, 0)
		}), ReasonKnock)
		w.decide()
		v.wantGrants(1)
	})
}

func TestSYNKnockIsNeverPassed(t *testing.T) {
	// Not to a service that answers any host either, nor with a grant there.
	for _, service := range []string{"ssh", "db", "vpn"} {
		w := newHarness(t, every())
		v := w.at("192.0.2.1")
		b := v.synKnock(alice, service, 0)
		for range 5 {
			w.want(b, ReasonKnock)
			w.decide()
			var p packet.Packet
			p.Data = b
			p.Parse()
			answer := packettest.TCP{
				Src: p.Tuple.Destination(), Dst: p.Tuple.Source(), Flags: packet.SYN | packet.ACK, Seq: 1, Ack: p.Seq + 1,
			}
			if w.egress(answer.Packet()) {
				t.Fatalf("%s: the knock is answered", service)
			}
		}
		if len(w.delivered) != 0 || w.gate.Stats().Flows != 0 {
			t.Errorf("%s: the knock is a connection", service)
		}
	}
}

func TestSYNKnockReuse(t *testing.T) {
	for service, most := range map[string]int{"ssh": 1 + knock.MaxReuse, "db": 1} {
		w := newHarness(t, every())
		v := w.at("192.0.2.1")
		b := v.synKnock(alice, service, 0)
		for i := range 12 {
			want := knock.OK
			if i >= most {
				want = knock.Repeated
			}
			if got := w.result(b); got != want {
				t.Errorf("%s, time %d: %v, want %v", service, i+1, got, want)
			}
		}
		v.wantGrants(most)
		// From another port it is the same pair still: a second connection.
		w.pass(testTTL + testDeadline + time.Second)
		w.sweep()
		v.wantGrants(0)
	}
}

func TestSYNKnockBindsAddresses(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every())
		v := w.at(addr)
		b := v.synKnock(alice, "ssh", 0)
		w.want(b, ReasonKnock)
		thief := v.spoofed(1)
		w.want(thief.from(b), ReasonKnock) // in the same batch
		w.decide()
		if w.events[0].Result != knock.OK || w.events[1].Result != knock.Replayed {
			t.Fatalf("%+v", w.events)
		}
		thief.wantGrants(0)
		w.want(thief.syn(40000, "ssh"), ReasonNoGrant)
		other := v.synAs(v.synFields(alice, "ssh", 0), netip.AddrPortFrom(v.gateway().Next(), 22))
		if got := w.result(other); got != knock.Replayed {
			t.Errorf("to another address: %v", got)
		}
		v.wantGrants(1)
		// For as long as the slot is accepted, and the knock of the next slot
		// is another.
		w.pass(testWindow)
		w.turn()
		if got := w.result(thief.from(b)); got != knock.Replayed {
			t.Errorf("a slot later: %v", got)
		}
		if got := w.result(thief.synKnock(alice, "ssh", 0)); got != knock.OK {
			t.Errorf("the next slot's: %v", got)
		}
		w.pass(testWindow)
		w.want(thief.from(b), ReasonNoGrant)
	})
}

func TestSYNKnockReplayAfterRestart(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	file := func(o *Options) {
		o.Store, o.Now, o.Mono = openFile(t, dir, clocks.options()), clocks.options().Now, clocks.options().Mono
	}
	w := newHarness(t, every(), file)
	v := w.at("192.0.2.1")
	single := v.synKnock(alice, "ssh", 0)
	sequence := [][]byte{v.synPart(alice, "db", 0, 0), v.synPart(alice, "db", 0, 1), v.synPart(alice, "db", 0, 2)}
	present := func(v testPeer) (one, three knock.Result) {
		one = v.w.result(v.from(single))
		for _, b := range sequence {
			three = v.w.result(v.from(b))
		}
		return one, three
	}
	if one, three := present(v); one != knock.OK || three != knock.OK {
		t.Fatal(one, three)
	}
	_ = w.gate.store.Close()
	w = newHarness(t, every(), file)
	// Even its owner's: who that was is not in the store.
	for _, addr := range []string{"192.0.2.1", "198.51.100.7"} {
		if one, three := present(w.at(addr)); one != knock.Replayed || three != knock.Replayed {
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
		w := newHarness(t, every(), func(o *Options) {
			c := policy.NewClient(alice)
			change(c, o.Now())
			every(having(c))(o)
		})
		v := w.at("192.0.2.1")
		if got := w.result(v.synKnock(alice, "db", 0)); got != knock.OutsideSchedule {
			t.Errorf("%s: %v", name, got)
		}
		w.empty()
	}
}

func TestSYNKnockPerSecret(t *testing.T) {
	newer := testSecret("alice", 2)
	c := &policy.Client{ID: "alice", Keys: []policy.Key{{Identity: alice}, {Identity: newer}}}
	w := newHarness(t, every(having(c)))
	// Two devices while the secret is being changed.
	for i, id := range []*protocol.Client{alice, newer} {
		v := w.at("192.0.2.1").spoofed(i)
		if got := w.result(v.synKnock(id, "db", 0)); got != knock.OK {
			t.Errorf("with secret %d: %v", i+1, got)
		}
		for part := range 3 {
			got, want := w.result(v.synPart(id, "db", 0, part)), knock.Incomplete
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
	store := replay.NewMemoryStore(newTestClocks().options())
	share := func(o *Options) { o.Store = store }
	one, two := newHarness(t, every(), share), newHarness(t, every(), share)
	b := one.at("192.0.2.1").synKnock(alice, "ssh", 0)
	if got := one.result(b); got != knock.OK {
		t.Fatal(got)
	}
	if got := two.result(b); got != knock.Replayed {
		t.Errorf("at the other gate: %v", got)
	}
}

// family is what the names of services at v's gateway end in.
func family(v testPeer) string {
	if v.addr.Is4() {
		return "4"
	}
	return "6"
}

// testSecret is a client of the same name with another secret.
func testSecret(id string, n int) *protocol.Client {
	c, err := protocol.NewClient(id, []byte{byte(n), 15: 1, 31: 0})
	if err != nil {
		panic(err)
	}
	return c
}

func TestSYNKnockFromFlowPort(t *testing.T) {
	for _, service := range []string{"db", "vpn"} {
		w := newHarness(t, every())
		v := w.at("192.0.2.1")
		v.knocks(alice, service, "")
		w.admit(v.syn(40000, service))
		v.enters(40000, service, alice)
		p := v.fieldsAs(v.synFields(bob, service, 0), v.server(service))
		p.Src = netip.AddrPortFrom(v.addr, 40000)
		if got := w.result(p.Packet()); got != knock.OK {
			t.Errorf("%s: %v", service, got)
		}
		w.want(v.syn(40000, service), ReasonFlow)
		w.want(v.tcp(40000, service, packet.ACK, 1001, 1, "data"), ReasonFlow)
	}
}
