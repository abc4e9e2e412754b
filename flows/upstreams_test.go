package flows

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sharing is a grant with uses, and the upstream connections of its flows.
type sharing struct {
	uses         atomic.Int64
	open, peak   atomic.Int64 // connections at the upstream
	dials        atomic.Int64
	mu           sync.Mutex
	upstreamEnds []*pipeEnd
}

// A counted is an upstream connection that records its end.
type counted struct {
	net.Conn
	once *sync.Once
	over func()
}

func (c counted) Close() error { c.once.Do(c.over); return c.Conn.Close() }
func (c counted) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// shared makes the flow of th share the connections of h, each dialed in took.
func (th *harness) shared(h *sharing, took time.Duration, fails error) *harness {
	th.knocked()
	th.plan.Share = func() (ShareKey, int) { return ShareKey{Grant: h, Upstream: "u"}, int(h.uses.Load()) }
	th.plan.HandshakeDone = func() error {
		if h.uses.Add(-1) < 0 {
			h.uses.Add(1)
			return errors.New("no grant")
		}
		return nil
	}
	th.plan.Dial = func(ctx context.Context) (net.Conn, error) {
		h.dials.Add(1)
		h.peak.Store(max(h.peak.Load(), h.open.Add(1)))
		once := new(sync.Once)
		over := func() { h.open.Add(-1) }
		select {
		case <-time.After(took):
		case <-ctx.Done():
			once.Do(over)
			return nil, ctx.Err()
		}
		if fails != nil {
			once.Do(over)
			return nil, fails
		}
		near, far := pair(&th.events, "upstream")
		h.mu.Lock()
		h.upstreamEnds = append(h.upstreamEnds, far)
		h.mu.Unlock()
		return counted{near, once, over}, nil
	}
	return th
}

// forged is a flow with a client that never answers.
func forged(t *testing.T, s *Table, h *sharing, took time.Duration, fails error) *harness {
	th := newHarness(t).use(s).shared(h, took, fails)
	th.hold = make(chan struct{})
	return th
}

func TestShareLimitsDials(t *testing.T) {
	for _, uses := range []int64{1, 3} {
		bubble(t, func(t *testing.T) {
			h := new(sharing)
			h.uses.Store(uses)
			set := newHarness(t).set
			var done []<-chan struct{}
			for range 500 {
				done = append(done, forged(t, set, h, 10*time.Millisecond, nil).serve())
				time.Sleep(time.Millisecond)
			}
			if h.peak.Load() != uses {
				t.Errorf("%d connections at a time, uses %d", h.peak.Load(), uses)
			}
			// A client that answers is admitted.
			th := newHarness(t).use(set).shared(h, 10*time.Millisecond, nil)
			served := th.serve()
			synctest.Wait()
			h.mu.Lock()
			far := h.upstreamEnds[len(h.upstreamEnds)-1]
			h.mu.Unlock()
			th.send(th.client, "hello")
			th.receive(far, "hello")
			_ = th.client.Close()
			_ = far.Close()
			<-served
			for _, d := range done {
				<-d
			}
			if h.open.Load() != 0 || set.Len() != 0 {
				t.Errorf("%d connections and %d flows are left", h.open.Load(), set.Len())
			}
			if len(set.pools) != 0 {
				t.Error("a pool is left")
			}
		})
	}
}

func TestShareDialsInParallel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const flows = 5
		h := new(sharing)
		h.uses.Store(flows)
		set := newHarness(t).set
		began := time.Now()
		var done []<-chan struct{}
		for range flows {
			th := newHarness(t).use(set).shared(h, 100*time.Millisecond, nil)
			done = append(done, th.serve())
			defer th.client.Close()
		}
		for set.Totals().Flows < flows {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 150*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if h.dials.Load() != flows {
			t.Errorf("%d dials", h.dials.Load())
		}
		for _, f := range set.All() {
			f.cancel(errKilled)
		}
		for _, d := range done {
			<-d
		}
	})
}

func TestShareDialFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := new(sharing)
		h.uses.Store(1)
		set := newHarness(t).set
		var harnesses []*harness
		var done []<-chan struct{}
		for range 50 {
			th := forged(t, set, h, 10*time.Millisecond, errors.New("refused"))
			harnesses, done = append(harnesses, th), append(done, th.serve())
		}
		for i, d := range done {
			<-d
			if !slices.Equal(harnesses[i].events.list(), []string{"reset", "on-drop"}) {
				t.Errorf("%q", harnesses[i].events.list())
			}
		}
		if h.dials.Load() != 1 {
			t.Errorf("%d dials", h.dials.Load())
		}
	})
}

func TestShareRedialsAfterEviction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := new(sharing)
		h.uses.Store(1)
		first := forged(t, newHarness(t).set, h, time.Second/2, nil)
		done := first.serve()
		synctest.Wait()
		th := newHarness(t).use(first.set).shared(h, time.Second/2, nil)
		th.plan.Key.Client = netip.MustParseAddrPort("192.0.2.1:2000")
		served := th.serve()
		synctest.Wait()
		first.set.Kill(first.plan.Key)
		<-done
		first.happened("drop", "on-drop")
		for first.set.Totals().Flows == 0 {
			time.Sleep(time.Millisecond)
		}
		if h.dials.Load() != 2 || h.peak.Load() != 1 {
			t.Errorf("%d dials, %d at a time", h.dials.Load(), h.peak.Load())
		}
		first.set.Kill(th.plan.Key)
		<-served
	})
}

func TestServeEvictedBeforeStart(t *testing.T) {
	th := newHarness(t).authenticated()
	th.plan.Admitted = func() bool { return !th.set.Kill(key) } // evicted just then
	<-th.serve()
	th.happened("drop")
	th.ended(CloseKilled)
}

func TestShareWithoutGrant(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := new(sharing)
		th := newHarness(t).shared(h, time.Second, nil)
		<-th.serve()
		th.happened("drop", "on-drop")
		th.ended(CloseNoGrant)
		if h.dials.Load() != 0 {
			t.Error("dialed")
		}
	})
}

func TestShareRedialsStale(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := new(sharing)
		h.uses.Store(1)
		th := newHarness(t).shared(h, time.Millisecond, nil)
		th.hold = make(chan struct{})
		served := th.serve()
		time.Sleep(maxReadyAge + time.Second)
		close(th.hold)
		for th.set.Totals().Flows == 0 {
			time.Sleep(time.Millisecond)
		}
		if h.dials.Load() != 2 || h.peak.Load() != 1 {
			t.Errorf("%d dials, %d at a time", h.dials.Load(), h.peak.Load())
		}
		th.set.Kill(key)
		<-served
	})
}
