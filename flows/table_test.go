package flows

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		done := th.serve()
		synctest.Wait()
		go func() {
			time.Sleep(3 * time.Second)
			th.client.CloseWrite()
			th.upstream.CloseWrite()
		}()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if left := th.set.Drain(ctx); left != 0 || time.Since(begin) != 3*time.Second {
			t.Errorf("%d left after %v", left, time.Since(begin))
		}
		<-done
		th.ended(CloseEOF)
	})
}

func TestDrainResetsRemaining(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(th *harness)
		want    []string
	}{
		// Each client gets a reset.
		"while the upstream is dialed": {func(th *harness) {
			th.knocked().plan.Dial = func(ctx context.Context) (net.Conn, error) { return nil, held(ctx) }
		}, []string{"reset", "on-drop"}},
		"during the handshake": {func(th *harness) {
			th.authenticated().hold = make(chan struct{})
		}, []string{"accept", "reset", "on-drop"}},
		"while the upstream is dialed after authentication": {func(th *harness) {
			th.authenticated().plan.Dial = func(ctx context.Context) (net.Conn, error) { return nil, held(ctx) }
		}, []string{"accept", "complete", "authenticate", "abort client", "closed"}},
		"during the relay": {func(th *harness) { th.knocked() },
			[]string{"dial", "accept", "complete", "abort client", "close upstream", "close client", "close upstream", "closed"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t)
				c.prepare(th)
				th.plan.DialTimeout = time.Hour
				done := th.serve()
				synctest.Wait()
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if left := th.set.Drain(ctx); left != 1 || time.Since(begin) != 5*time.Second {
					t.Errorf("%d left after %v", left, time.Since(begin))
				}
				th.ended(CloseDrained) // before Drain returns
				<-done
				th.happened(c.want...)
			})
		})
	}
}

func TestDrainRejectsNewRequests(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"an empty set": time.Hour, "no timeout": 0} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).authenticated()
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				if left := th.set.Drain(ctx); left != 0 {
					t.Errorf("%d left", left)
				}
				<-th.serve()
				th.happened("reset", "on-drop")
				th.ended(CloseDrained)
			})
		})
	}
}

func TestDrainIncludesNewFlows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		set := NewTable(slog.New(slog.DiscardHandler))
		first, second := newHarness(t).use(set).knocked(), newHarness(t).use(set).knocked()
		second.plan.Key.Client = netip.MustParseAddrPort("192.0.2.2:1000")
		ends := []<-chan struct{}{first.serve()}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		drained := make(chan int)
		go func() { drained <- set.Drain(ctx) }()
		time.Sleep(time.Second)
		ends = append(ends, second.serve())
		synctest.Wait()
		first.client.CloseWrite()
		first.upstream.CloseWrite()
		if left := <-drained; left != 1 {
			t.Errorf("%d left", left)
		}
		for _, e := range ends {
			<-e
		}
		if got := set.Totals(); got.Closed[CloseEOF] != 1 || got.Closed[CloseDrained] != 1 {
			t.Errorf("%v", got.Closed)
		}
	})
}

func TestTableReusedTuple(t *testing.T) {
	// Three flows of one tuple end in every order; the table loses none of them.
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		bubble(t, func(t *testing.T) {
			set := NewTable(slog.New(slog.DiscardHandler))
			harnesses := make([]*harness, 3)
			ends := make([]<-chan struct{}, 3)
			for i := range harnesses {
				harnesses[i] = newHarness(t).use(set).knocked()
				ends[i] = harnesses[i].serve()
				synctest.Wait()
				harnesses[i].send(harnesses[i].client, "hello")
				harnesses[i].receive(harnesses[i].upstream, "hello")
			}
			for n, i := range order {
				if got := set.Totals().Up; set.Len() != 3-n || got != 15 {
					t.Errorf("%v: %d flows, %d bytes after %d ended", order, set.Len(), got, n)
				}
				harnesses[i].client.CloseWrite()
				harnesses[i].upstream.CloseWrite()
				<-ends[i]
			}
			if set.Len() != 0 || len(set.flows) != 0 {
				t.Errorf("%v: %d flows left", order, set.Len())
			}
		})
	}
}

func TestKillEndsAllOfTuple(t *testing.T) {
	for name, end := range map[string]func(s *Table){
		"kill":  func(s *Table) { s.Kill(key) },
		"drain": func(s *Table) { ctx, cancel := context.WithCancel(context.Background()); cancel(); s.Drain(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				set := NewTable(slog.New(slog.DiscardHandler))
				old, young := newHarness(t).use(set).knocked(), newHarness(t).use(set).knocked()
				ends := []<-chan struct{}{old.serve()}
				synctest.Wait()
				ends = append(ends, young.serve())
				synctest.Wait()
				begin := time.Now()
				end(set)
				for _, e := range ends {
					<-e
				}
				if time.Since(begin) != 0 || set.Len() != 0 {
					t.Errorf("%v, %d left", time.Since(begin), set.Len())
				}
			})
		})
	}
}

func TestTableConcurrentUse(t *testing.T) {
	set := NewTable(slog.New(slog.DiscardHandler))
	var flows, others sync.WaitGroup
	stop := make(chan struct{})
	others.Go(func() {
		var last Totals
		for {
			select {
			case <-stop:
				return
			default:
			}
			now := set.Totals()
			if now.Up < last.Up || now.Down < last.Down || now.Flows < last.Flows {
				t.Errorf("totals went from %+v to %+v", last, now)
			}
			last = now
		}
	})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				set.Kill(key)
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	for worker := range 8 {
		flows.Go(func() {
			for n := range 100 {
				th := newHarness(t).use(set)
				if n%2 == 0 {
					th.knocked()
				} else {
					th.authenticated()
				}
				if worker%2 == 0 {
					th.plan.Key.Client = netip.AddrPortFrom(key.Client.Addr(), uint16(worker))
				}
				done := th.serve()
				go func() {
					io.Copy(th.upstream, th.upstream)
					th.upstream.CloseWrite()
				}()
				th.client.Write([]byte("hello"))
				th.client.CloseWrite()
				io.Copy(io.Discard, th.client)
				<-done
				th.client.Abort()
				th.upstream.Abort()
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	set.Drain(ctx)
	if n := set.Len(); n != 0 {
		t.Errorf("%d flows after the drain", n)
	}
	flows.Wait()
	close(stop)
	others.Wait()
	var ends uint64
	for _, n := range set.Totals().Closed {
		ends += n
	}
	if ends != 800 || set.Len() != 0 || len(set.flows) != 0 {
		t.Errorf("%d ends, %d flows left", ends, set.Len())
	}
}

func TestCloseReasonNames(t *testing.T) {
	seen := make(map[string]bool)
	for e := range CloseReason(NumCloseReasons) {
		if n := e.String(); n == "" || seen[n] {
			t.Errorf("reason %d has the name %q", e, n)
		}
		seen[e.String()] = true
	}
}

func TestTableAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		th.plan.Upstream = "10.0.2.2:22"
		var told []CloseReason
		th.plan.OnEnd = func(f *Flow, end CloseReason) {
			if len(th.set.All()) != 0 {
				t.Error("OnEnd was called for a listed flow")
			}
			if up, down := f.Bytes(); up != 3 || down != 0 {
				t.Errorf("%d bytes up and %d down", up, down)
			}
			told = append(told, end)
		}
		done := th.serve()
		synctest.Wait()
		if _, err := th.client.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		list := th.set.All()
		if len(list) != 1 || list[0].Upstream != "10.0.2.2:22" || list[0].Service != th.plan.Service || list[0].Idle() != time.Second {
			t.Errorf("%+v", list)
		}
		th.client.CloseWrite()
		th.upstream.CloseWrite()
		<-done
		if len(told) != 1 || told[0] != CloseEOF {
			t.Errorf("OnEnd: %v", told)
		}
	})
}
