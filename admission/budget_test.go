package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// withClientCount gives one service n clients.
func withClientCount(n int) func(*Options) {
	return func(o *Options) {
		allMethods(withClients(manyClients(n)...), withMethods(policy.MethodUDP), func(p *policy.Options) {
			p.Services = append(only(slices.Clone(p.Services), "ssh4"), only(slices.Clone(p.Services), "ssh6")...)
		})(o)
		o.Limits = Limits{}
		o.Knocked = nil
	}
}

func (h *harness) tried() int { _, trials := h.gate.knocks.Computed(); return int(trials) }

// flood sends junk that looks like knocks in simulated time: a datagram every
// interval, from the source that from returns, to a worker that computes the
// given number of HMACs in each interval.
type flood struct {
	*harness
	from     func(n int) testPeer
	interval time.Duration
	hmacs    int
	n        int
}

// step runs one interval.
func (s *flood) step() {
	s.n++
	s.gate.Admit(parsed(s.from(s.n).junk()))
	for limit := s.tried() + s.hmacs; s.tried() < limit; {
		k := s.worker.Next()
		if k == nil {
			break
		}
		s.worker.Process(k)
	}
	s.Advance(s.interval)
}

// wait continues the flood until done, for at most limit, and returns the time
// it took.
func (s *flood) wait(limit time.Duration, done func() bool) (time.Duration, bool) {
	start := s.Mono()
	for !done() {
		if s.Mono()-start >= limit {
			return limit, false
		}
		s.step()
	}
	return s.Mono() - start, true
}

// knock sends a knock of c from peer during the flood and returns the time it
// took.
func (s *flood) knock(peer testPeer, c *protocol.Client) (time.Duration, bool) {
	for range s.random.Uint64() % 50 {
		s.step()
	}
	had := s.grantsOf(peer.addr)
	s.gate.Admit(parsed(peer.knock(c, "ssh")))
	return s.wait(400*time.Millisecond, func() bool { return s.grantsOf(peer.addr) > had })
}

// testJunkFlood sends 5,000 datagrams a second to a gate with 1,000 clients. A
// client seen within the last hour must be admitted within 50 ms. The worker
// gets half a processor, about six HMACs a microsecond.
func testJunkFlood(t *testing.T, from func(h *harness, n int) testPeer) {
	t.Helper()
	h := newHarness(t, withClientCount(1000))
	s := &flood{harness: h, interval: 200 * time.Microsecond, hmacs: 600, from: func(n int) testPeer { return from(h, n) }}
	clients := s.gate.policy.Load().Services()[0].Clients
	s.wait(time.Second, func() bool { return false })
	var took []time.Duration
	refused, outsiders := 0, 0
	for n := range 20 {
		known := s.peer("192.0.2.1").spoofed(1000000 + n)
		s.gate.mu.Lock()
		s.gate.knocks.Known.Record(testAddr(1000000+n), clients[n].ID, s.Mono()-30*time.Minute)
		s.gate.mu.Unlock()
		d, ok := s.knock(known, clients[n].Keys[0].Identity)
		if took = append(took, d); !ok {
			refused++
		}
		if _, ok := s.knock(s.peer("192.0.2.1").spoofed(2000000+n), clients[n].Keys[0].Identity); ok {
			outsiders++
		}
	}
	slices.Sort(took)
	t.Logf("a client seen within the hour: median %v, slowest %v, %d of 20 refused; a new one: %d of 20 within 400 ms",
		took[10], took[19], refused, outsiders)
	if refused > 0 || took[19] > 50*time.Millisecond {
		t.Errorf("%d known clients refused, the slowest took %v", refused, took[19])
	}
	if outsiders == 0 {
		t.Error("no new client was admitted")
	}
}

func TestJunkFromSixteenSourcesSparesKnownClients(t *testing.T) {
	testJunkFlood(t, func(h *harness, n int) testPeer { return h.peer(fmt.Sprintf("198.51.%d.7", n%16)) })
}

func TestJunkFromNetworkSparesKnownClients(t *testing.T) {
	testJunkFlood(t, func(h *harness, n int) testPeer { return h.peer(fmt.Sprintf("198.51.100.%d", n%16)) })
}

func TestJunkFromEverywhereSparesKnownClients(t *testing.T) {
	testJunkFlood(t, func(h *harness, n int) testPeer { return h.peer("192.0.2.1").spoofed(n * 257) }) // each in another network
}

func TestBudgetIsChargedBeforeHMAC(t *testing.T) {
	const clients = 100
	for _, c := range []struct {
		name string
		from func(h *harness, n int) testPeer
		most int
	}{
		{"one address", func(h *harness, _ int) testPeer { return h.peer("198.51.100.1") }, testUnknownBurst * clients},
		{"one network", func(h *harness, n int) testPeer { return h.peer(fmt.Sprintf("198.51.100.%d", 1+n%200)) }, testUnknownSubnetBurst * clients},
		{"one IPv6 network", func(h *harness, n int) testPeer { return h.peer(fmt.Sprintf("2001:db8::%x", 1+n)) }, testUnknownSubnetBurst * clients},
		{"everywhere", func(h *harness, n int) testPeer { return h.peer("192.0.2.1").spoofed(n * 257) }, testHMACBurst},
	} {
		h := newHarness(t, withClientCount(clients))
		for n := range 6000 {
			before := h.tried()
			v := h.gate.Admit(parsed(c.from(h, n).junk()))
			if h.tried() != before {
				t.Fatalf("%s: an HMAC on the packet path", c.name)
			}
			if v.Reason == ReasonQueueFull {
				t.Fatalf("%s: the queue is full", c.name)
			}
			for k := h.worker.Next(); k != nil; k = h.worker.Next() {
				h.worker.Process(k)
			}
		}
		if got := h.tried(); got > c.most || got < c.most-clients {
			t.Errorf("%s: %d HMACs, %d were paid for", c.name, got, c.most)
		}
		h.wantEmpty()
	}
}

func TestKnownSourcePaysForAllServices(t *testing.T) {
	h := newHarness(t, allMethods(withClients(manyClients(50)...), withMethods(policy.MethodUDP)), func(o *Options) { o.Limits = Limits{} })
	peer := h.peer("192.0.2.1")
	p := h.gate.policy.Load()
	for n := range knock.ClientsPerSource + 2 {
		peer.mustKnock(p.Services()[0].Clients[n].Keys[0].Identity, "ssh", "")
	}
	h.Advance(10 * time.Second)
	before := h.tried()
	const junk = 5000
	refused := 0
	for range junk {
		if h.gate.Admit(parsed(peer.junk())).Reason == ReasonBudget {
			refused++
		}
		for k := h.worker.Next(); k != nil; k = h.worker.Next() {
			h.worker.Process(k)
		}
	}
	cost := p.TrialCost(packet.AddrFrom(peer.gateway()), testKnockPort, knock.ClientsPerSource)
	if cost.Known != 4*knock.ClientsPerSource || cost.All != 4*50 {
		t.Fatalf("%+v", cost)
	}
	if got, most := h.tried()-before, testKnownBurst*cost.Known+testUnknownBurst*cost.All; got > most || refused != junk-testKnownBurst {
		t.Errorf("%d HMACs, %d were paid for; %d of %d datagrams refused", got, most, refused, junk)
	}
}

func TestFastQueueIsServedFirst(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.events = nil
	for n := range 2 * knock.Batch {
		h.want(peer.spoofed(n).junk(), ReasonKnock)
	}
	// A batch of the slow queue has started when a known client's knock
	// arrives.
	k := h.worker.Next()
	for _, b := range [][]byte{peer.knock(alice, "db"), peer.spoofed(100).v2(alice, "db"), peer.spoofed(101).synKnock(bob, "db", 0)} {
		if got := h.gate.Admit(parsed(b)); got.Reason != ReasonKnock {
			t.Fatal(got.Reason)
		}
	}
	h.worker.Process(k)
	if len(h.events) != 1 {
		t.Fatalf("%d knocks were decided before that of the known client", len(h.events))
	}
	h.worker.Process(h.worker.Next())
	if len(h.events) != 4 {
		t.Fatalf("%d knocks decided", len(h.events))
	}
	for _, e := range h.events[1:] {
		if e.Result != knock.OK {
			t.Errorf("%+v", e)
		}
	}
	h.decide()
	h.check()
}

func TestKnockCopyStaysBehindOriginal(t *testing.T) {
	h := newHarness(t, allMethods())
	thief, peer := h.peer("198.51.100.7"), h.peer("192.0.2.1")
	thief.mustKnock(bob, "many", "") // or another host has, there
	original := peer.knock(alice, "db")
	h.want(original, ReasonKnock)
	h.want(thief.readdress(original), ReasonKnock)
	h.want(thief.syn(1, "db"), ReasonDeferred)
	h.want(peer.syn(1, "db"), ReasonDeferred)
	h.decide()
	peer.wantGrants(1)
	if len(h.delivered) != 1 || parsed([]byte(h.delivered[0].data)).Tuple != peer.tuple(1, "db") {
		t.Errorf("%+v", h.delivered)
	}
	if err := h.gate.knocks.CheckNonces(); err != nil {
		t.Error(err)
	}
}

func TestKnocksOfManyClientsBehindNAT(t *testing.T) {
	const people = 3 * knock.ClientsPerSource
	h := newHarness(t, withClientCount(500), func(o *Options) { o.Knocked = nil })
	peer := h.peer("192.0.2.1")
	clients := h.gate.policy.Load().Services()[0].Clients
	for round := range 5 {
		for n := range people {
			had := h.grantsOf(peer.addr)
			h.gate.Admit(parsed(peer.knock(clients[n].Keys[0].Identity, "ssh")))
			h.decide()
			if h.grantsOf(peer.addr) != had+1 {
				t.Fatalf("round %d: person %d is outside", round, n)
			}
			h.Advance(100 * time.Millisecond)
		}
	}
	// The latest clients are found at once.
	before := h.tried()
	for n := people - knock.ClientsPerSource; n < people; n++ {
		h.gate.Admit(parsed(peer.knock(clients[n].Keys[0].Identity, "ssh")))
		h.decide()
	}
	if got := h.tried() - before; got > knock.ClientsPerSource*knock.ClientsPerSource {
		t.Errorf("%d HMACs for %d known clients", got, knock.ClientsPerSource)
	}
}
