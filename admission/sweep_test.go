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

// running runs f in a bubble while the gate runs, and ends it afterwards.
func running(t *testing.T, f func(t *testing.T, w *harness)) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := newHarness(t, func(o *Options) {
			o.Now, o.Mono = nil, func() time.Duration { return time.Since(start) }
			var mu sync.Mutex
			o.Evicted = func(packet.Tuple) { mu.Lock(); defer mu.Unlock() }
		})
		w.wall = start // for the messages' times
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.gate.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		f(t, w)
		cancel()
		wg.Wait()
	})
}

func TestGateRun(t *testing.T) {
	running(t, func(t *testing.T, w *harness) {
		v := w.at("192.0.2.1")
		b := v.knock(alice, "db")
		if got := w.gate.Admit(parsed(b)); got.Reason != ReasonKnock {
			t.Fatal(got)
		}
		synctest.Wait()
		w.want(v.syn(40000, "db"), ReasonGrant)
		w.gate.Remove(v.tuple(40000, "db"))
		time.Sleep(testTTL + testDeadline + 2*sweepInterval)
		synctest.Wait()
		w.empty()
	})
}

func TestAuthenticateWaitsForKnock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		w.want(v.syn(40000, "vpn"), ReasonOpen) // visible: the handshake may be faster
		v.handshakes(40000, "vpn")
		w.want(v.junk(), ReasonKnock)
		w.want(v.sealed(alice, "vpn", v.message(sessionID(1))), ReasonKnock)
		ended := make(chan error, 1)
		go func() {
			ended <- w.gate.Authenticate(v.tuple(40000, "vpn"), alice, sessionID(1), ok)
		}()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		time.Sleep(pendingKnockTimeout / 2)
		w.decide()
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
			w := newHarness(t)
			v := w.at("192.0.2.1")
			w.want(v.syn(40000, "vpn"), ReasonOpen)
			v.handshakes(40000, "vpn")
			w.want(v.junk(), ReasonKnock)
			ended := make(chan error, 1)
			start := time.Now()
			go func() {
				ended <- w.gate.Authenticate(v.tuple(40000, "vpn"), alice, "", ok)
			}()
			synctest.Wait()
			if c.decided {
				w.decide()
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
		w := newHarness(t)
		v := w.at("192.0.2.1")
		w.want(v.syn(40000, "vpn"), ReasonOpen)
		v.handshakes(40000, "vpn")
		w.want(v.knock(alice, "vpn"), ReasonKnock)
		ended := make(chan error, 1)
		go func() { ended <- w.gate.Authenticate(v.tuple(40000, "vpn"), alice, "", ok) }()
		synctest.Wait()
		w.gate.Remove(v.tuple(40000, "vpn"))
		w.decide()
		if err := <-ended; !errors.Is(err, ErrFlowClosed) {
			t.Error(err)
		}
	})
}

// Many at once: for the race detector, and for the counts at the end.
func TestGateConcurrentUse(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.HalfOpen, o.Limits.Flows = 50, 200 })
	ctx, cancel := context.WithCancel(t.Context())
	var run, wg sync.WaitGroup
	run.Go(func() { _ = w.gate.Run(ctx) })
	w.gate.deliver = func(*packet.Packet, Verdict) {}
	for i := range 8 {
		v := w.at("192.0.2.1")
		for range i {
			v.addr = v.addr.Next()
		}
		knocks := [][]byte{}
		for range 30 {
			knocks = append(knocks, v.sealed(alice, "ssh", v.message(sessionID(i))), v.junk())
		}
		wg.Go(func() {
			for n, b := range knocks {
				port := uint16(40000 + n)
				w.gate.Admit(parsed(b))
				w.gate.Admit(parsed(v.syn(port, "ssh")))
				w.gate.Admit(parsed(v.syn(port, "web")))
				for _, service := range []string{"ssh", "web"} {
					w.gate.Egress(parsed(v.reply(port, service, packet.SYN|packet.ACK, 5, 1001, "")), 0)
					if w.gate.HandshakeDone(v.tuple(port, service)) == nil {
						w.gate.Candidates(v.tuple(port, service))
						_ = w.gate.Authenticate(v.tuple(port, service), alice, sessionID(i), ok)
						w.gate.RelayDone(v.tuple(port, service))
					}
				}
				w.gate.Stats()
			}
		})
	}
	wg.Wait()
	for w.gate.Stats().KnocksQueued > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	run.Wait()
	w.decide()
	w.check()
	w.pass(testTTL + testDeadline + halfOpenTime + 1)
	for range 3 {
		w.sweep()
	}
	w.empty()
}
