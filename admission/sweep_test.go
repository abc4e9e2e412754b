package admission

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// runGate runs f in a synctest bubble while the gate runs, and stops it
// afterwards.
func runGate(t *testing.T, f func(t *testing.T, h *harness)) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		h := newHarness(t, func(o *Options) {
			o.Now, o.Mono = nil, func() time.Duration { return time.Since(start) }
			var mu sync.Mutex
			o.Evicted = func(packet.Tuple) { mu.Lock(); defer mu.Unlock() }
		})
		h.StepWall(start.Sub(h.Now())) // for the messages' times
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := h.gate.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		f(t, h)
		cancel()
		wg.Wait()
	})
}

func TestGateRun(t *testing.T) {
	runGate(t, func(t *testing.T, h *harness) {
		peer := h.peer("192.0.2.1")
		b := peer.knock(alice, "db")
		if got := h.gate.Admit(parsed(b)); got.Reason != ReasonKnock {
			t.Fatal(got)
		}
		synctest.Wait()
		h.want(peer.syn(40000, "db"), ReasonGrant)
		h.gate.Remove(peer.tuple(40000, "db"))
		time.Sleep(testTTL + testDeadline + 2*sweepInterval)
		synctest.Wait()
		h.wantEmpty()
	})
}

func TestAuthenticateWaitsForKnock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		h.want(peer.syn(40000, "vpn"), ReasonOpen) // visible: the handshake may be faster
		peer.mustHandshake(40000, "vpn")
		h.want(peer.junk(), ReasonKnock)
		h.want(peer.sealKnock(alice, "vpn", peer.message(sessionID(1))), ReasonKnock)
		ended := make(chan error, 1)
		go func() {
			ended <- h.gate.Authenticate(peer.tuple(40000, "vpn"), alice, sessionID(1), succeed)
		}()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		time.Sleep(pendingKnockTimeout / 2)
		h.decide()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

func TestAuthenticateWaitIsBounded(t *testing.T) {
	for _, c := range []struct {
		name    string
		decided bool
		want    time.Duration
	}{{"all decided", true, 0}, {"never decided", false, pendingKnockTimeout}} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t)
			peer := h.peer("192.0.2.1")
			h.want(peer.syn(40000, "vpn"), ReasonOpen)
			peer.mustHandshake(40000, "vpn")
			h.want(peer.junk(), ReasonKnock)
			ended := make(chan error, 1)
			start := time.Now()
			go func() {
				ended <- h.gate.Authenticate(peer.tuple(40000, "vpn"), alice, "", succeed)
			}()
			synctest.Wait()
			if c.decided {
				h.decide()
			}
			if err := <-ended; !errors.Is(err, ErrNoGrant) {
				t.Errorf("%s: %v", c.name, err)
			}
			if took := time.Since(start); took != c.want {
				t.Errorf("%s: took %v", c.name, took)
			}
		})
	}
}

func TestAuthenticateFailsOnClosedFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		h.want(peer.syn(40000, "vpn"), ReasonOpen)
		peer.mustHandshake(40000, "vpn")
		h.want(peer.knock(alice, "vpn"), ReasonKnock)
		ended := make(chan error, 1)
		go func() { ended <- h.gate.Authenticate(peer.tuple(40000, "vpn"), alice, "", succeed) }()
		synctest.Wait()
		h.gate.Remove(peer.tuple(40000, "vpn"))
		h.decide()
		if err := <-ended; !errors.Is(err, ErrFlowClosed) {
			t.Error(err)
		}
	})
}

// Many goroutines at once, for the race detector and the counts at the end.
func TestGateConcurrentUse(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.HalfOpen, o.Limits.Flows = 50, 200 })
	ctx, cancel := context.WithCancel(t.Context())
	var run, wg sync.WaitGroup
	run.Go(func() { _ = h.gate.Run(ctx) })
	h.gate.deliver = func(*packet.Packet, Verdict) {}
	for i := range 8 {
		peer := h.peer("192.0.2.1")
		for range i {
			peer.addr = peer.addr.Next()
		}
		knocks := [][]byte{}
		for range 30 {
			knocks = append(knocks, peer.sealKnock(alice, "ssh", peer.message(sessionID(i))), peer.junk())
		}
		wg.Go(func() {
			for n, b := range knocks {
				port := uint16(40000 + n)
				h.gate.Admit(parsed(b))
				h.gate.Admit(parsed(peer.syn(port, "ssh")))
				h.gate.Admit(parsed(peer.syn(port, "web")))
				for _, service := range []string{"ssh", "web"} {
					h.gate.Egress(parsed(peer.reply(port, service, packet.SYN|packet.ACK, 5, 1001, "")), 0)
					if h.gate.HandshakeDone(peer.tuple(port, service)) == nil {
						h.gate.Candidates(peer.tuple(port, service))
						_ = h.gate.Authenticate(peer.tuple(port, service), alice, sessionID(i), succeed)
						h.gate.RelayDone(peer.tuple(port, service))
					}
				}
				h.gate.Stats()
			}
		})
	}
	wg.Wait()
	for h.gate.Stats().KnocksQueued > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	run.Wait()
	h.decide()
	h.check()
	h.Advance(testTTL + testDeadline + halfOpenTime + 1)
	for range 3 {
		h.sweep()
	}
	h.wantEmpty()
}
