package admission

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

func TestSYNSequenceInOrder(t *testing.T) {
	everywhere(func(addr string) {
		for length := protocol.MinSYNSequence; length <= protocol.MaxSYNSequence; length++ {
			for off := int64(-2); off <= 2; off++ {
				w := newHarness(t, every(parts(length)))
				v := w.at(addr)
				for i := range length {
					b := v.synPart(alice, "ssh", off, i)
					switch {
					case off < -1 || off > 1:
						w.want(b, ReasonNoGrant)
					case i < length-1:
						w.want(b, ReasonKnockPart)
					default:
						w.want(b, ReasonKnock)
						w.want(v.syn(40000, "ssh"), ReasonDeferred) // the race is not lost
					}
					w.pass(80 * time.Millisecond)
				}
				w.decide()
				if off < -1 || off > 1 {
					w.empty()
					continue
				}
				if e := w.events[0]; len(w.events) != 1 || e.Result != knock.OK || e.Method != protocol.MethodTCPSYNSeq {
					t.Fatalf("%d parts, slot %+d: %+v", length, off, w.events)
				}
				if len(w.delivered) != 1 {
					t.Error("the SYN that waited is not delivered")
				}
				v.enters(40000, "ssh", alice)
			}
		}
	})
}

func TestPolicyRejectsLongSYNSequence(t *testing.T) {
	for _, n := range []int{-1, 1, 6, 8, 9} {
		o := policy.Options{Window: testWindow, Sequence: policy.Sequence{Length: n}, Services: []policy.Service{{
			Name: "ssh", Listen: netip.MustParsePrefix("10.77.0.1/32"), Port: 22, Mode: policy.ModeKnock, Methods: policy.MethodSYNSeq,
		}}}
		if _, err := policy.New(o); err == nil {
			t.Errorf("%d parts", n)
		}
		o.Services[0].Methods = policy.MethodUDPSeq
		if _, err := policy.New(o); (err == nil) != (n >= protocol.MinSequence && n <= protocol.MaxSequence) {
			t.Errorf("%d parts of UDP: %v", n, err)
		}
	}
}

func TestSYNSequenceIgnoresRepeatedParts(t *testing.T) {
	for _, c := range []struct {
		order []int
		opens bool
	}{
		{[]int{0, 1, 2}, true},
		{[]int{0, 0, 1, 1, 1, 0, 2}, true},
		{[]int{2, 1, 0, 1, 2}, true},
		{[]int{0, 2, 1, 2}, true},
		{[]int{0, 2, 1}, false},
		{[]int{2, 1, 0}, false},
		{[]int{1, 2}, false},
		{[]int{0, 2}, false},
		{[]int{0, 0, 0}, false},
	} {
		w := newHarness(t, every())
		v := w.at("192.0.2.1")
		last := knock.Incomplete
		for _, i := range c.order {
			if got := w.result(v.synPart(alice, "db", 0, i)); got != knock.Incomplete {
				last = got
			}
		}
		if (last == knock.OK) != c.opens {
			t.Errorf("%v: %v", c.order, last)
		}
		v.wantGrants(len(w.events))
	}
}

func TestSYNSequenceAcrossSlotsIsIgnored(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	w.until(expectPart, 100*time.Millisecond)
	w.want(v.synPart(alice, "db", 0, 0), ReasonKnockPart)
	w.want(v.synPart(alice, "db", 0, 1), ReasonKnockPart)
	w.pass(100 * time.Millisecond)
	w.want(v.synPart(alice, "db", 0, 2), ReasonKnockPart)
	w.turn()
	w.want(v.synPart(alice, "db", 0, 2), ReasonKnockPart)
	w.decide()
	v.wantGrants(0)
	// The one that the first two were of is still good in the next slot.
	if got := w.result(v.synPart(alice, "db", -1, 2)); got != knock.OK {
		t.Error(got)
	}
}

func TestSYNSequenceFromTwoAddressesIsIgnored(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	thief := v.spoofed(1)
	w.want(v.synPart(alice, "db", 0, 0), ReasonKnockPart)
	w.want(thief.synPart(alice, "db", 0, 1), ReasonKnockPart)
	w.want(v.synPart(alice, "db", 0, 2), ReasonKnockPart)
	w.decide()
	if len(w.events) != 0 {
		t.Fatalf("%+v", w.events)
	}
}

func TestSYNSequenceIsClaimedOnce(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	thief := v.spoofed(1)
	first, second, third := v.synPart(alice, "db", 0, 0), v.synPart(alice, "db", 0, 1), v.synPart(alice, "db", 0, 2)
	// An attacker copies every packet, and is always faster.
	for _, b := range [][]byte{first, second} {
		w.want(b, ReasonKnockPart)
		w.want(thief.from(b), ReasonKnockPart)
		w.want(thief.from(b), ReasonKnockPart)
	}
	if got := w.result(third); got != knock.OK {
		t.Fatal(got)
	}
	v.wantGrants(1)
	for _, b := range [][]byte{first, second, third} {
		if got := w.result(thief.from(b)); got != knock.Incomplete && got != knock.Replayed {
			t.Error(got)
		}
	}
	if w.lastKnock() != knock.Replayed {
		t.Errorf("%+v", w.events)
	}
	thief.wantGrants(0)
	// Its owner earns nothing by repeating it, and loses nothing.
	for _, b := range [][]byte{first, second, third} {
		w.result(b)
	}
	if w.lastKnock() != knock.Repeated {
		t.Errorf("%+v", w.events)
	}
	v.wantGrants(1)
}

func TestSYNSequenceCopiesDoNotBlock(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	w.want(v.synPart(alice, "db", 0, 0), ReasonKnockPart)
	// Every host that has seen the first part sends it, from ever new addresses,
	// in between, and the second one too as soon as it is out.
	copies := func(index int) {
		for range 200 {
			w.ids++
			w.want(v.spoofed(int(w.ids)).synPart(alice, "db", 0, index), ReasonKnockPart)
		}
	}
	copies(0)
	bob1 := w.at("198.51.100.1")
	for i := range 2 {
		w.want(bob1.synPart(bob, "db", 0, i), ReasonKnockPart)
	}
	w.want(v.synPart(alice, "db", 0, 1), ReasonKnockPart)
	copies(0)
	copies(1)
	if got := w.result(bob1.synPart(bob, "db", 0, 2)); got != knock.OK {
		t.Errorf("another host's sequence: %v", got)
	}
	if got := w.result(v.synPart(alice, "db", 0, 2)); got != knock.OK {
		t.Errorf("the sequence that was copied: %v", got)
	}
	v.wantGrants(1)
}

func TestSYNSequenceReplacesIdleSource(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	for i := range knock.SourcesPerSYNSequence {
		w.want(v.spoofed(i+1).synPart(alice, "db", 0, 0), ReasonKnockPart)
	}
	w.want(v.synPart(alice, "db", 0, 0), ReasonKnockPart)
	w.want(v.synPart(alice, "db", 0, 1), ReasonKnockPart)
	w.want(v.synPart(alice, "db", 0, 2), ReasonKnockPart)
	w.pass(knock.ReservedTime)
	for i := range 2 {
		w.want(v.synPart(alice, "db", 0, i), ReasonKnockPart)
	}
	if got := w.result(v.synPart(alice, "db", 0, 2)); got != knock.OK {
		t.Error(got)
	}
}

func TestSYNSequencesOfThousands(t *testing.T) {
	const clients = 4000
	w := newHarness(t, func(o *Options) {
		every(having(manyClients(clients)...), taking(policy.MethodSYNSeq), func(p *policy.Options) {
			p.Services = only(p.Services, "db4")
		})(o)
		o.Limits = Limits{}
	})
	all := w.gate.policy.Load().Services()[0].Clients
	ok := 0
	for part := range 3 {
		for i, c := range all {
			v := w.at("192.0.2.1").spoofed(i)
			w.gate.Admit(parsed(v.synPart(c.Keys[0].Identity, "db", 0, part)))
			for w.worker.Step() {
				w.pass(time.Microsecond)
			}
		}
	}
	for _, e := range w.events {
		if e.Result == knock.OK {
			ok++
		}
	}
	if ok != clients || w.gate.knocks.SYNSequences() != 0 {
		t.Errorf("%d of %d got in; %d are on their way", ok, clients, w.gate.knocks.SYNSequences())
	}
}

func TestSYNSequenceRetriesLastPart(t *testing.T) {
	w := newHarness(t, every(), func(o *Options) { o.Limits.Knocks = 2 })
	v := w.at("192.0.2.1")
	for i := range 2 {
		w.want(v.synPart(alice, "db", 0, i), ReasonKnockPart)
		w.want(v.spoofed(i).synKnock([]*protocol.Client{alice, bob}[i], "ssh", 0), ReasonKnock)
	}
	w.want(v.synPart(alice, "db", 0, 2), ReasonQueueFull)
	w.decide()
	if got := w.result(v.synPart(alice, "db", 0, 2)); got != knock.OK {
		t.Error(got)
	}
}

func TestSYNSequenceExpires(t *testing.T) {
	w := newHarness(t, every(legacy))
	v := w.at("192.0.2.1")
	w.want(v.synPart(alice, "db", 0, 0), ReasonKnockPart)
	w.want(v.legacyPart(bob, "db", 0, 0), ReasonKnockPart)
	w.pass(knock.SlotsAccepted * testWindow)
	w.turn()
	w.sweep()
	if n := w.gate.knocks.SYNSequences(); n != 0 {
		t.Errorf("%d left", n)
	}
	for i := range 3 {
		w.result(v.synPart(alice, "db", 0, i))
	}
	v.wantGrants(1)
}

func TestSYNSequenceLegacySwitch(t *testing.T) {
	everywhere(func(addr string) {
		for _, on := range []bool{true, false} {
			change := []func(*policy.Options){taking(policy.MethodSYNSeq)}
			if on {
				change = append(change, legacy)
			}
			w := newHarness(t, every(change...))
			v := w.at(addr)
			for i := range 3 {
				b := v.legacyPart(alice, "ssh", 0, i)
				if !on {
					w.want(b, ReasonNotService)
					continue
				}
				// Each to its own port and to no other.
				w.want(v.synAs(v.legacyFields(alice, "ssh", i), netip.AddrPortFrom(v.gateway(), 999)), ReasonNotService)
				w.want(v.synAs(v.legacyFields(alice, "ssh", i), v.server("ssh")), ReasonNoGrant)
				w.want(b, []Reason{ReasonKnockPart, ReasonKnockPart, ReasonKnock}[i])
			}
			w.decide()
			if on {
				v.wantGrants(1)
				w.want(v.syn(40000, "ssh"), ReasonGrant)
			} else {
				w.empty()
			}
			// Our own form is taken either way, and is a knock of its own.
			for i := range 3 {
				w.result(v.synPart(bob, "ssh", 0, i))
			}
			if w.lastKnock() != knock.OK {
				t.Errorf("legacy %v: %v", on, w.lastKnock())
			}
		}
	})
}

func TestSYNSequenceFormsDoNotMix(t *testing.T) {
	w := newHarness(t, every(legacy))
	v := w.at("192.0.2.1")
	w.want(v.synPart(alice, "ssh", 0, 0), ReasonKnockPart)
	w.want(v.legacyPart(alice, "ssh", 0, 1), ReasonKnockPart)
	w.want(v.synPart(alice, "ssh", 0, 2), ReasonKnockPart)
	w.decide()
	w.empty()
}

func TestLegacyPartAtServicePort(t *testing.T) {
	// The port of the second part, by chance, is that of a service: a hidden
	// one, and one that would answer.
	w := newHarness(t)
	_, port := alice.SYNPartLegacy(protocol.NewScratch(), 22, protocol.Slot(w.options().Now(), testWindow), 1)
	for _, mode := range []policy.Mode{policy.ModeKnock, policy.ModeAuth} {
		w := newHarness(t, every(legacy, func(o *policy.Options) {
			s := o.Services[0]
			s.Name, s.Listen, s.Port, s.MACPort, s.Mode = "chance", netip.MustParsePrefix("10.77.0.0/24"), port, port, mode
			o.Services = append(o.Services, s)
		}))
		v := w.at("192.0.2.1")
		for i := range 3 {
			w.want(v.legacyPart(alice, "ssh", 0, i), []Reason{ReasonKnockPart, ReasonKnockPart, ReasonKnock}[i])
		}
		w.decide()
		v.wantGrants(1)
	}
}

func TestUDPSequencesAreLimitedPerSource(t *testing.T) {
	w := newHarness(t, every())
	clients := []*protocol.Client{alice, bob}
	random := rand.New(rand.NewPCG(1, 2))
	var testPeers []testPeer
	next := map[int]int{}
	for i := range 20 {
		testPeers = append(testPeers, w.at("192.0.2.1").spoofed(i))
	}
	// Twenty sources shuffle their way through the sequences of two clients; the
	// first to finish each is let in.
	for range 400 {
		i := random.IntN(len(testPeers))
		c, part := clients[i%2], random.IntN(3)
		w.result(testPeers[i].synPart(c, "db", 0, part))
		if part == next[i] {
			next[i]++
		}
	}
	granted := map[string]int{}
	for _, e := range w.events {
		if e.Result == knock.OK {
			granted[e.Client]++
		}
	}
	if granted["alice"] != 1 || granted["bob"] != 1 {
		t.Errorf("%v", granted)
	}
}

// legacyFields are those of a part in the legacy form.
func (v testPeer) legacyFields(c *protocol.Client, service string, index int) protocol.SYNFields {
	f, _ := c.SYNPartLegacy(protocol.NewScratch(), v.server(service).Port(), v.w.slot(expectLegacyPart), index)
	return f
}
