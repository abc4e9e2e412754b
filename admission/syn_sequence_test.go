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
	forEachFamily(func(addr string) {
		for length := protocol.MinSYNSequence; length <= protocol.MaxSYNSequence; length++ {
			for off := int64(-2); off <= 2; off++ {
				h := newHarness(t, allMethods(withSequenceLength(length)))
				peer := h.peer(addr)
				for i := range length {
					b := peer.synPart(alice, "ssh", off, i)
					switch {
					case off < -1 || off > 1:
						h.want(b, ReasonNoGrant)
					case i < length-1:
						h.want(b, ReasonKnockPart)
					default:
						h.want(b, ReasonKnock)
						h.want(peer.syn(40000, "ssh"), ReasonDeferred) // the race is not lost
					}
					h.Advance(80 * time.Millisecond)
				}
				h.decide()
				if off < -1 || off > 1 {
					h.wantEmpty()
					continue
				}
				if e := h.events[0]; len(h.events) != 1 || e.Result != knock.OK || e.Method != protocol.MethodTCPSYNSeq {
					t.Fatalf("%d parts, slot %+d: %+v", length, off, h.events)
				}
				if len(h.delivered) != 1 {
					t.Error("the SYN that waited is not delivered")
				}
				peer.mustEnter(40000, "ssh", alice)
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
		h := newHarness(t, allMethods())
		peer := h.peer("192.0.2.1")
		last := knock.Incomplete
		for _, i := range c.order {
			if got := h.knockResult(peer.synPart(alice, "db", 0, i)); got != knock.Incomplete {
				last = got
			}
		}
		if (last == knock.OK) != c.opens {
			t.Errorf("%v: %v", c.order, last)
		}
		peer.wantGrants(len(h.events))
	}
}

func TestSYNSequenceAcrossSlotsIsIgnored(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	h.advanceToSlot(expectPart, 100*time.Millisecond)
	h.want(peer.synPart(alice, "db", 0, 0), ReasonKnockPart)
	h.want(peer.synPart(alice, "db", 0, 1), ReasonKnockPart)
	h.Advance(100 * time.Millisecond)
	h.want(peer.synPart(alice, "db", 0, 2), ReasonKnockPart)
	h.rotateTable()
	h.want(peer.synPart(alice, "db", 0, 2), ReasonKnockPart)
	h.decide()
	peer.wantGrants(0)
	// The slot of the first two parts is still accepted in the next one.
	if got := h.knockResult(peer.synPart(alice, "db", -1, 2)); got != knock.OK {
		t.Error(got)
	}
}

func TestSYNSequenceFromTwoAddressesIsIgnored(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	thief := peer.spoofed(1)
	h.want(peer.synPart(alice, "db", 0, 0), ReasonKnockPart)
	h.want(thief.synPart(alice, "db", 0, 1), ReasonKnockPart)
	h.want(peer.synPart(alice, "db", 0, 2), ReasonKnockPart)
	h.decide()
	if len(h.events) != 0 {
		t.Fatalf("%+v", h.events)
	}
}

func TestSYNSequenceIsClaimedOnce(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	thief := peer.spoofed(1)
	first, second, third := peer.synPart(alice, "db", 0, 0), peer.synPart(alice, "db", 0, 1), peer.synPart(alice, "db", 0, 2)
	// An attacker copies every packet, and is always faster.
	for _, b := range [][]byte{first, second} {
		h.want(b, ReasonKnockPart)
		h.want(thief.readdress(b), ReasonKnockPart)
		h.want(thief.readdress(b), ReasonKnockPart)
	}
	if got := h.knockResult(third); got != knock.OK {
		t.Fatal(got)
	}
	peer.wantGrants(1)
	for _, b := range [][]byte{first, second, third} {
		if got := h.knockResult(thief.readdress(b)); got != knock.Incomplete && got != knock.Replayed {
			t.Error(got)
		}
	}
	if h.lastKnock() != knock.Replayed {
		t.Errorf("%+v", h.events)
	}
	thief.wantGrants(0)
	// Its owner gains nothing by repeating it, and loses nothing.
	for _, b := range [][]byte{first, second, third} {
		h.knockResult(b)
	}
	if h.lastKnock() != knock.Repeated {
		t.Errorf("%+v", h.events)
	}
	peer.wantGrants(1)
}

func TestSYNSequenceCopiesDoNotBlock(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	h.want(peer.synPart(alice, "db", 0, 0), ReasonKnockPart)
	// Hosts that have seen the first part send it from new addresses in
	// between, and the second one too as soon as it was sent.
	copies := func(index int) {
		for range 200 {
			h.ids++
			h.want(peer.spoofed(int(h.ids)).synPart(alice, "db", 0, index), ReasonKnockPart)
		}
	}
	copies(0)
	bob1 := h.peer("198.51.100.1")
	for i := range 2 {
		h.want(bob1.synPart(bob, "db", 0, i), ReasonKnockPart)
	}
	h.want(peer.synPart(alice, "db", 0, 1), ReasonKnockPart)
	copies(0)
	copies(1)
	if got := h.knockResult(bob1.synPart(bob, "db", 0, 2)); got != knock.OK {
		t.Errorf("another host's sequence: %v", got)
	}
	if got := h.knockResult(peer.synPart(alice, "db", 0, 2)); got != knock.OK {
		t.Errorf("the sequence that was copied: %v", got)
	}
	peer.wantGrants(1)
}

func TestSYNSequenceReplacesIdleSource(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	for i := range knock.SourcesPerSYNSequence {
		h.want(peer.spoofed(i+1).synPart(alice, "db", 0, 0), ReasonKnockPart)
	}
	h.want(peer.synPart(alice, "db", 0, 0), ReasonKnockPart)
	h.want(peer.synPart(alice, "db", 0, 1), ReasonKnockPart)
	h.want(peer.synPart(alice, "db", 0, 2), ReasonKnockPart)
	h.Advance(knock.ReservedTime)
	for i := range 2 {
		h.want(peer.synPart(alice, "db", 0, i), ReasonKnockPart)
	}
	if got := h.knockResult(peer.synPart(alice, "db", 0, 2)); got != knock.OK {
		t.Error(got)
	}
}

func TestSYNSequencesOfThousands(t *testing.T) {
	const clients = 4000
	h := newHarness(t, func(o *Options) {
		allMethods(withClients(manyClients(clients)...), withMethods(policy.MethodSYNSeq), func(p *policy.Options) {
			p.Services = only(p.Services, "db4")
		})(o)
		o.Limits = Limits{}
	})
	all := h.gate.policy.Load().Services()[0].Clients
	ok := 0
	for part := range 3 {
		for i, c := range all {
			peer := h.peer("192.0.2.1").spoofed(i)
			h.gate.Admit(parsed(peer.synPart(c.Keys[0].Identity, "db", 0, part)))
			for h.worker.Step() {
				h.Advance(time.Microsecond)
			}
		}
	}
	for _, e := range h.events {
		if e.Result == knock.OK {
			ok++
		}
	}
	if ok != clients || h.gate.knocks.SYNSequences() != 0 {
		t.Errorf("%d of %d got in; %d are on their way", ok, clients, h.gate.knocks.SYNSequences())
	}
}

func TestSYNSequenceRetriesLastPart(t *testing.T) {
	h := newHarness(t, allMethods(), func(o *Options) { o.Limits.Knocks = 2 })
	peer := h.peer("192.0.2.1")
	for i := range 2 {
		h.want(peer.synPart(alice, "db", 0, i), ReasonKnockPart)
		h.want(peer.spoofed(i).synKnock([]*protocol.Client{alice, bob}[i], "ssh", 0), ReasonKnock)
	}
	h.want(peer.synPart(alice, "db", 0, 2), ReasonQueueFull)
	h.decide()
	if got := h.knockResult(peer.synPart(alice, "db", 0, 2)); got != knock.OK {
		t.Error(got)
	}
}

func TestSYNSequenceExpires(t *testing.T) {
	h := newHarness(t, allMethods(withLegacySequences))
	peer := h.peer("192.0.2.1")
	h.want(peer.synPart(alice, "db", 0, 0), ReasonKnockPart)
	h.want(peer.legacyPart(bob, "db", 0, 0), ReasonKnockPart)
	h.Advance(knock.SlotsAccepted * testWindow)
	h.rotateTable()
	h.sweep()
	if n := h.gate.knocks.SYNSequences(); n != 0 {
		t.Errorf("%d left", n)
	}
	for i := range 3 {
		h.knockResult(peer.synPart(alice, "db", 0, i))
	}
	peer.wantGrants(1)
}

func TestSYNSequenceLegacySwitch(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, on := range []bool{true, false} {
			change := []func(*policy.Options){withMethods(policy.MethodSYNSeq)}
			if on {
				change = append(change, withLegacySequences)
			}
			h := newHarness(t, allMethods(change...))
			peer := h.peer(addr)
			for i := range 3 {
				b := peer.legacyPart(alice, "ssh", 0, i)
				if !on {
					h.want(b, ReasonNotService)
					continue
				}
				// Each is accepted on its own port only.
				h.want(peer.synAs(peer.legacyFields(alice, "ssh", i), netip.AddrPortFrom(peer.gateway(), 999)), ReasonNotService)
				h.want(peer.synAs(peer.legacyFields(alice, "ssh", i), peer.server("ssh")), ReasonNoGrant)
				h.want(b, []Reason{ReasonKnockPart, ReasonKnockPart, ReasonKnock}[i])
			}
			h.decide()
			if on {
				peer.wantGrants(1)
				h.want(peer.syn(40000, "ssh"), ReasonGrant)
			} else {
				h.wantEmpty()
			}
			// The standard encoding is accepted in either case, and is a knock
			// of its own.
			for i := range 3 {
				h.knockResult(peer.synPart(bob, "ssh", 0, i))
			}
			if h.lastKnock() != knock.OK {
				t.Errorf("legacy %v: %v", on, h.lastKnock())
			}
		}
	})
}

func TestSYNSequenceFormsDoNotMix(t *testing.T) {
	h := newHarness(t, allMethods(withLegacySequences))
	peer := h.peer("192.0.2.1")
	h.want(peer.synPart(alice, "ssh", 0, 0), ReasonKnockPart)
	h.want(peer.legacyPart(alice, "ssh", 0, 1), ReasonKnockPart)
	h.want(peer.synPart(alice, "ssh", 0, 2), ReasonKnockPart)
	h.decide()
	h.wantEmpty()
}

func TestLegacyPartAtServicePort(t *testing.T) {
	// The port of the second part happens to be that of a service: a hidden
	// one, and an open one.
	h := newHarness(t)
	_, port := alice.SYNPartLegacy(protocol.NewScratch(), 22, protocol.Slot(h.Now(), testWindow), 1)
	for _, mode := range []policy.Mode{policy.ModeKnock, policy.ModeAuth} {
		h := newHarness(t, allMethods(withLegacySequences, func(o *policy.Options) {
			s := o.Services[0]
			s.Name, s.Listen, s.Port, s.MACPort, s.Mode = "chance", netip.MustParsePrefix("10.77.0.0/24"), port, port, mode
			o.Services = append(o.Services, s)
		}))
		peer := h.peer("192.0.2.1")
		for i := range 3 {
			h.want(peer.legacyPart(alice, "ssh", 0, i), []Reason{ReasonKnockPart, ReasonKnockPart, ReasonKnock}[i])
		}
		h.decide()
		peer.wantGrants(1)
	}
}

func TestUDPSequencesAreLimitedPerSource(t *testing.T) {
	h := newHarness(t, allMethods())
	clients := []*protocol.Client{alice, bob}
	random := rand.New(rand.NewPCG(1, 2))
	var testPeers []testPeer
	next := map[int]int{}
	for i := range 20 {
		testPeers = append(testPeers, h.peer("192.0.2.1").spoofed(i))
	}
	// Twenty sources send the sequences of two clients in random order; the
	// first to complete each is admitted.
	for range 400 {
		i := random.IntN(len(testPeers))
		c, part := clients[i%2], random.IntN(3)
		h.knockResult(testPeers[i].synPart(c, "db", 0, part))
		if part == next[i] {
			next[i]++
		}
	}
	granted := map[string]int{}
	for _, e := range h.events {
		if e.Result == knock.OK {
			granted[e.Client]++
		}
	}
	if granted["alice"] != 1 || granted["bob"] != 1 {
		t.Errorf("%v", granted)
	}
}

// legacyFields returns the fields of a part in the legacy encoding.
func (peer testPeer) legacyFields(c *protocol.Client, service string, index int) protocol.SYNFields {
	f, _ := c.SYNPartLegacy(protocol.NewScratch(), peer.server(service).Port(), peer.h.slot(expectLegacyPart), index)
	return f
}
