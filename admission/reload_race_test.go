package admission

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// raceDuration is the time during which packets and reloads race.
const raceDuration = 2 * time.Second

// A gate on real clocks changes its policy all the time, while flows continue,
// start and end, knocks are decided and unauthorized hosts send packets.
func TestReloadIsAtomic(t *testing.T) {
	h := newHarness(t, allMethods()) // its clocks stand still; its gate is not used
	results := make(chan knock.Event, 1)
	var outsider atomic.Int64
	g, err := New(Options{
		Policy: h.gate.Policy(), Store: replay.NewMemoryStore(storeOptions(h.Clocks)), Now: h.Now,
		Deliver: func(*packet.Packet, Verdict) {}, Evicted: func(packet.Tuple) {},
		Knocked: func(e knock.Event) { results <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), raceDuration)
	defer stop()
	var wg, deciding sync.WaitGroup
	work, end := context.WithCancel(context.Background())
	deciding.Go(func() { _ = g.Run(work) })
	going := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				f(i)
			}
		})
	}
	admit := func(b []byte) Verdict {
		p := packet.Packet{Data: b}
		p.Parse()
		return g.Admit(&p)
	}

	// A flow of alice to an unchanged service, which never ends.
	lasting := h.peer("192.0.2.9")
	if v := admit(lasting.syn(1, "web")); v.Reason != ReasonOpen {
		t.Fatal(v.Reason)
	}
	var synACK packet.Packet
	synACK.DecodeTCP(lasting.reply(1, "web", packet.SYN|packet.ACK, 0, 1001, ""))
	g.Egress(&synACK, 0)
	if v := admit(lasting.tcp(1, "web", packet.ACK, 1001, 1, "")); v.Reason != ReasonFlow {
		t.Fatal(v.Reason)
	}
	if err := errors.Join(g.HandshakeDone(lasting.tuple(1, "web")), g.Authenticate(lasting.tuple(1, "web"), alice, "", succeed)); err != nil {
		t.Fatal(err)
	}
	data, reply := lasting.tcp(1, "web", packet.ACK, 1001, 1, "data"), lasting.reply(1, "web", packet.ACK, 1, 1001, "data")
	going(func(int) {
		if v := admit(data); v.Reason != ReasonFlow {
			t.Errorf("a packet of a flow: %v", v.Reason)
		}
		var p packet.Packet
		p.DecodeTCP(reply)
		if !g.Egress(&p, 4) {
			t.Error("a packet of a flow was kept back")
		}
	})
	// Unauthorized hosts, in the middle of it.
	junk := [][]byte{
		h.peer("192.0.2.66").syn(1, "db"), h.peer("192.0.2.66").syn(1, "ssh"), h.peer("192.0.2.66").tcp(1, "db", packet.ACK, 5, 5, "x"),
	}
	going(func(i int) {
		if v := admit(junk[i%len(junk)]); v.Action != Drop {
			t.Errorf("an unauthorized host's packet: %v", v.Reason)
		}
		outsider.Add(1)
	})
	// Bob, whose services are added and removed.
	bobs := h.peer("192.0.2.7")
	going(func(i int) {
		port := uint16(i%5000 + 1)
		admit(bobs.syn(port, "vpn"))
		_ = g.HandshakeDone(bobs.tuple(port, "vpn"))
		_ = g.Authenticate(bobs.tuple(port, "vpn"), bob, "", succeed)
		g.RelayDone(bobs.tuple(port, "vpn"))
	})
	// Alice knocks by every method and connects, and no knock may be lost. The
	// clock of messages stands still, so each needs a session ID of its own.
	alices := h.peer("192.0.2.1")
	entered := 0
	knocks := func(i int) []byte {
		switch i % 2 {
		case 0:
			return alices.sealKnock(alice, "db", alices.message(sessionID(i)))
		default:
			return alices.v2(alice, "db")
		}
	}
	going(func(i int) {
		time.Sleep(time.Millisecond) // her budget is a thousand a second
		if v := admit(knocks(i)); v.Reason != ReasonKnock {
			t.Errorf("knock %d: %v", i, v.Reason)
			return
		}
		e := <-results
		if e.Result != knock.OK {
			t.Errorf("knock %d: %v", i, e.Result)
			return
		}
		port := uint16(10000 + i%50000)
		if v := admit(alices.syn(port, "db")); v.Action != Pass {
			t.Errorf("connection %d: %v", i, v.Reason)
			return
		}
		if err := g.HandshakeDone(alices.tuple(port, "db")); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		g.Remove(alices.tuple(port, "db"))
		entered++
	})
	reloads := 0
	going(func(i int) {
		p := g.Policy()
		switch i % 4 {
		case 0:
			g.SetPolicy(reloadedPolicy(p, removeClient("bob")))
		case 1:
			g.SetPolicy(reloadedPolicy(p, changeServices(func(s *policy.Service) { s.Clients = policyClients([]*protocol.Client{alice, bob}) })))
		case 2:
			g.SetPolicy(reloadedPolicy(p, removeServices("vpn", "many")))
		case 3:
			g.SetPolicy(reloadedPolicy(h.gate.Policy(), func(o *policy.Options) { o.After = p }))
		}
		g.SetLimits(Limits{FlowsPerSource: 100000 + i}, Ban{})
		reloads++
	})
	wg.Wait()
	end()
	deciding.Wait()
	const few = 5 // the minimum on a busy machine
	if entered < few || reloads < few || outsider.Load() < few {
		t.Errorf("only %d knocks, %d reloads and %d packets of unauthorized hosts", entered, reloads, outsider.Load())
	}
	t.Logf("%d knocks, %d reloads, %d packets of unauthorized hosts", entered, reloads, outsider.Load())
}
