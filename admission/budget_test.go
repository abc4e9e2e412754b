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

// crowded has n clients of one service.
func crowded(n int) func(*Options) {
	return func(o *Options) {
		every(having(manyClients(n)...), taking(policy.MethodUDP), func(p *policy.Options) {
			p.Services = append(only(slices.Clone(p.Services), "ssh4"), only(slices.Clone(p.Services), "ssh6")...)
		})(o)
		o.Limits = Limits{}
		o.Knocked = nil
	}
}

func (w *harness) tried() int { _, trials := w.gate.knocks.Computed(); return int(trials) }

// flood is junk that looks like knocks, in simulated time: a datagram every
// interval, each from where from says, against a worker that manages so many
// HMACs meanwhile.
type flood struct {
	*harness
	from     func(n int) testPeer
	interval time.Duration
	hmacs    int
	n        int
}

// step is one interval.
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
	s.pass(s.interval)
}

// wait lets the flood go on until done, and tells for how long; at most for
// most.
func (s *flood) wait(most time.Duration, done func() bool) (time.Duration, bool) {
	start := s.options().Mono()
	for !done() {
		if s.options().Mono()-start >= most {
			return most, false
		}
		s.step()
	}
	return s.options().Mono() - start, true
}

// knock has c knock from v, in the middle of it all, and tells how long it took.
func (s *flood) knock(v testPeer, c *protocol.Client) (time.Duration, bool) {
	for range s.random.Uint64() % 50 {
		s.step()
	}
	had := s.grantsOf(v.addr)
	s.gate.Admit(parsed(v.knock(c, "ssh")))
	return s.wait(400*time.Millisecond, func() bool { return s.grantsOf(v.addr) > had })
}

// besiege sends 5,000 datagrams a second at a gate with 1,000 clients, and asks
// for what the issue wants: a client seen within the hour gets through within
// 50 ms. The worker is given half a processor, which does some six HMACs a
// microsecond.
func besiege(t *testing.T, from func(w *harness, n int) testPeer) {
	t.Helper()
	w := newHarness(t, crowded(1000))
	s := &flood{harness: w, interval: 200 * time.Microsecond, hmacs: 600, from: func(n int) testPeer { return from(w, n) }}
	clients := s.gate.policy.Load().Services()[0].Clients
	s.wait(time.Second, func() bool { return false })
	var took []time.Duration
	refused, outsiders := 0, 0
	for n := range 20 {
		known := s.at("192.0.2.1").spoofed(1000000 + n)
		s.gate.mu.Lock()
		s.gate.knocks.Known.Record(at(1000000+n), clients[n].ID, s.options().Mono()-30*time.Minute)
		s.gate.mu.Unlock()
		d, ok := s.knock(known, clients[n].Keys[0].Identity)
		if took = append(took, d); !ok {
			refused++
		}
		if _, ok := s.knock(s.at("192.0.2.1").spoofed(2000000+n), clients[n].Keys[0].Identity); ok {
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
		t.Error("a new client never gets in")
	}
}

func TestJunkFromSixteenSourcesSparesKnownClients(t *testing.T) {
	besiege(t, func(w *harness, n int) testPeer { return w.at(fmt.Sprintf("198.51.%d.7", n%16)) })
}

func TestJunkFromNetworkSparesKnownClients(t *testing.T) {
	besiege(t, func(w *harness, n int) testPeer { return w.at(fmt.Sprintf("198.51.100.%d", n%16)) })
}

func TestJunkFromEverywhereSparesKnownClients(t *testing.T) {
	besiege(t, func(w *harness, n int) testPeer { return w.at("192.0.2.1").spoofed(n * 257) }) // in ever new networks
}

func TestBudgetIsChargedBeforeHMAC(t *testing.T) {
	const clients = 100
	for _, c := range []struct {
		name string
		from func(w *harness, n int) testPeer
		most int
	}{
		{"one address", func(w *harness, _ int) testPeer { return w.at("198.51.100.1") }, testUnknownBurst * clients},
		{"one network", func(w *harness, n int) testPeer { return w.at(fmt.Sprintf("198.51.100.%d", 1+n%200)) }, testUnknownSubnetBurst * clients},
		{"one IPv6 network", func(w *harness, n int) testPeer { return w.at(fmt.Sprintf("2001:db8::%x", 1+n)) }, testUnknownSubnetBurst * clients},
		{"everywhere", func(w *harness, n int) testPeer { return w.at("192.0.2.1").spoofed(n * 257) }, testHMACBurst},
	} {
		w := newHarness(t, crowded(clients))
		for n := range 6000 {
			before := w.tried()
			v := w.gate.Admit(parsed(c.from(w, n).junk()))
			if w.tried() != before {
				t.Fatalf("%s: an HMAC on the packet path", c.name)
			}
			if v.Reason == ReasonQueueFull {
				t.Fatalf("%s: the queue is full", c.name)
			}
			for k := w.worker.Next(); k != nil; k = w.worker.Next() {
				w.worker.Process(k)
			}
		}
		if got := w.tried(); got > c.most || got < c.most-clients {
			t.Errorf("%s: %d HMACs, %d were paid for", c.name, got, c.most)
		}
		w.empty()
	}
}

func TestKnownSourcePaysForAllServices(t *testing.T) {
	w := newHarness(t, every(having(manyClients(50)...), taking(policy.MethodUDP)), func(o *Options) { o.Limits = Limits{} })
	v := w.at("192.0.2.1")
	p := w.gate.policy.Load()
	for n := range knock.ClientsPerSource + 2 {
		v.knocks(p.Services()[0].Clients[n].Keys[0].Identity, "ssh", "")
	}
	w.pass(10 * time.Second)
	before := w.tried()
	const junk = 5000
	refused := 0
	for range junk {
		if w.gate.Admit(parsed(v.junk())).Reason == ReasonBudget {
			refused++
		}
		for k := w.worker.Next(); k != nil; k = w.worker.Next() {
			w.worker.Process(k)
		}
	}
	cost := p.TrialCost(packet.AddrFrom(v.gateway()), testKnockPort, knock.ClientsPerSource)
	if cost.Known != 4*knock.ClientsPerSource || cost.All != 4*50 {
		t.Fatalf("%+v", cost)
	}
	if got, most := w.tried()-before, testKnownBurst*cost.Known+testUnknownBurst*cost.All; got > most || refused != junk-testKnownBurst {
		t.Errorf("%d HMACs, %d were paid for; %d of %d datagrams refused", got, most, refused, junk)
	}
}

func TestFastQueueIsServedFirst(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.events = nil
	for n := range 2 * knock.Batch {
		w.want(v.spoofed(n).junk(), ReasonKnock)
	}
	// A batch of the cold lane has begun when a known client's knock comes.
	k := w.worker.Next()
	for _, b := range [][]byte{v.knock(alice, "db"), v.spoofed(100).v2(alice, "db"), v.spoofed(101).synKnock(bob, "db", 0)} {
		if got := w.gate.Admit(parsed(b)); got.Reason != ReasonKnock {
			t.Fatal(got.Reason)
		}
	}
	w.worker.Process(k)
	if len(w.events) != 1 {
		t.Fatalf("%d knocks were decided before that of the known client", len(w.events))
	}
	w.worker.Process(w.worker.Next())
	if len(w.events) != 4 {
		t.Fatalf("%d knocks decided", len(w.events))
	}
	for _, e := range w.events[1:] {
		if e.Result != knock.OK {
			t.Errorf("%+v", e)
		}
	}
	w.decide()
	w.check()
}

func TestKnockCopyStaysBehindOriginal(t *testing.T) {
	w := newHarness(t, every())
	thief, v := w.at("198.51.100.7"), w.at("192.0.2.1")
	thief.knocks(bob, "many", "") // or another host has, there
	original := v.knock(alice, "db")
	w.want(original, ReasonKnock)
	w.want(thief.from(original), ReasonKnock)
	w.want(thief.syn(1, "db"), ReasonDeferred)
	w.want(v.syn(1, "db"), ReasonDeferred)
	w.decide()
	v.wantGrants(1)
	if len(w.delivered) != 1 || parsed([]byte(w.delivered[0].data)).Tuple != v.tuple(1, "db") {
		t.Errorf("%+v", w.delivered)
	}
	if err := w.gate.knocks.CheckNonces(); err != nil {
		t.Error(err)
	}
}

func TestKnocksOfManyClientsBehindNAT(t *testing.T) {
	const people = 3 * knock.ClientsPerSource
	w := newHarness(t, crowded(500), func(o *Options) { o.Knocked = nil })
	v := w.at("192.0.2.1")
	clients := w.gate.policy.Load().Services()[0].Clients
	for round := range 5 {
		for n := range people {
			had := w.grantsOf(v.addr)
			w.gate.Admit(parsed(v.knock(clients[n].Keys[0].Identity, "ssh")))
			w.decide()
			if w.grantsOf(v.addr) != had+1 {
				t.Fatalf("round %d: person %d is outside", round, n)
			}
			w.pass(100 * time.Millisecond)
		}
	}
	// Those who knocked last are found at once.
	before := w.tried()
	for n := people - knock.ClientsPerSource; n < people; n++ {
		w.gate.Admit(parsed(v.knock(clients[n].Keys[0].Identity, "ssh")))
		w.decide()
	}
	if got := w.tried() - before; got > knock.ClientsPerSource*knock.ClientsPerSource {
		t.Errorf("%d HMACs for %d known clients", got, knock.ClientsPerSource)
	}
}
