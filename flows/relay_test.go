package flows

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRelayHalfClose(t *testing.T) {
	request, reply := strings.Repeat("request ", 1000), strings.Repeat("reply ", 10000)
	for name, ends := range map[string]func(th *harness) (asks, answers *pipeEnd){
		"the client asks":   func(th *harness) (*pipeEnd, *pipeEnd) { return th.client, th.upstream },
		"the upstream asks": func(th *harness) (*pipeEnd, *pipeEnd) { return th.upstream, th.client },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).knocked()
				done := th.serve()
				asks, answers := ends(th)
				go func() {
					th.receive(answers, request)
					th.receiveEnd(answers, io.EOF)
					time.Sleep(30 * time.Second) // within the idle time
					th.send(answers, reply)
					answers.CloseWrite()
				}()
				th.send(asks, request)
				asks.CloseWrite()
				th.receive(asks, reply)
				th.receiveEnd(asks, io.EOF)
				<-done
				th.ended(CloseEOF)
				up, down := len(request), len(reply)
				if asks == th.upstream {
					up, down = down, up
				}
				if got := th.set.Totals(); got.Up != uint64(up) || got.Down != uint64(down) || got.Flows != 1 {
					t.Errorf("%+v; wanted %d up and %d down", got, up, down)
				}
			})
		})
	}
}

func TestRelayIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		done := th.serve()
		begin := time.Now()
		for range 10 {
			time.Sleep(th.plan.Idle - time.Second)
			th.send(th.upstream, "x")
			th.receive(th.client, "x")
		}
		last := time.Now()
		<-done
		if idle := time.Since(last); idle != th.plan.Idle {
			t.Errorf("ended %v after the last byte, %v after it began", idle, time.Since(begin))
		}
		th.ended(CloseIdle)
		th.receiveEnd(th.client, errReset)
	})
}

func TestRelayWithoutIdleTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		th.plan.Idle = 0
		done := th.serve()
		time.Sleep(1000 * time.Hour)
		th.send(th.client, "still there?")
		th.receive(th.upstream, "still there?")
		th.set.Kill(key)
		<-done
	})
}

func TestIdleTimerStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		done := th.serve()
		time.Sleep(th.plan.Idle - 1) // the timer fires while the flow ends
		th.client.CloseWrite()
		th.upstream.CloseWrite()
		<-done
		time.Sleep(10 * th.plan.Idle)
		th.ended(CloseEOF)
	})
}

func TestRelayFailureResetsBoth(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(th *harness)
		end  CloseReason
	}{
		"the client resets":   {func(th *harness) { th.client.Abort() }, CloseClientReset},
		"the upstream resets": {func(th *harness) { th.upstream.Abort() }, CloseUpstreamReset},
		"the client resets after its FIN": {func(th *harness) {
			th.client.CloseWrite()
			synctest.Wait()
			th.client.Abort()
			th.upstream.Write([]byte("x"))
		}, CloseClientReset},
		"the upstream resets while it is written to": {func(th *harness) { th.fill(th.client); th.upstream.Abort() }, CloseUpstreamReset},
		"the client resets while it is written to":   {func(th *harness) { th.fill(th.upstream); th.client.Abort() }, CloseClientReset},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).knocked()
				done := th.serve()
				synctest.Wait()
				c.fail(th)
				<-done
				th.ended(c.end)
				if _, err := io.Copy(io.Discard, th.client); c.end == CloseUpstreamReset && !errors.Is(err, errReset) {
					t.Errorf("the client read %v", err)
				}
			})
		})
	}
}

// fill writes to s until the buffers are full.
func (th *harness) fill(s *pipeEnd) {
	go s.Write(make([]byte, 10*streamRoom))
	synctest.Wait()
}

func TestKillUnblocksWrite(t *testing.T) {
	for name, end := range map[string]func(th *harness){
		"killed": func(th *harness) { th.set.Kill(key) },
		"idle":   func(th *harness) { time.Sleep(th.plan.Idle) },
		"drained": func(th *harness) {
			ctx, cancel := context.WithTimeout(th.Context(), time.Second)
			defer cancel()
			if n := th.set.Drain(ctx); n != 1 {
				th.Errorf("%d flows were left", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).knocked()
				done := th.serve()
				th.fill(th.client)
				th.fill(th.upstream)
				end(th)
				<-done
				if th.set.Len() != 0 {
					t.Error("the flow still exists")
				}
			})
		})
	}
}

func TestRelayIdleHoldsNoBuffer(t *testing.T) {
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("with the race detector a Pool loses some of what it is given, on purpose")
	}
	bubble(t, func(t *testing.T) {
		const relays = 20
		set := NewTable(slog.New(slog.DiscardHandler))
		fresh, made := set.buffers.New, 0
		set.buffers.New = func() any { made++; return fresh() }
		ctx, cancel := context.WithCancel(t.Context())
		var harnesses [relays]*harness
		var ended sync.WaitGroup
		for i := range harnesses {
			th := newHarness(t)
			harnesses[i] = th
			near, far := pair(&th.events, "upstream")
			th.upstream = far
			ended.Go(func() {
				f := &Flow{Started: time.Now(), cancel: func(error) {}}
				set.relay(ctx, f, notifying{th.near}, notifying{near}, new(Plan))
			})
		}
		synctest.Wait()
		if made != 0 {
			t.Errorf("%d buffers taken before there was a byte to read", made)
		}
		for range 3 {
			for _, th := range harnesses {
				th.send(th.client, "x")
				th.receive(th.upstream, "x")
				th.send(th.upstream, "y")
				th.receive(th.client, "y")
				synctest.Wait()
			}
		}
		// One buffer suffices for them one after another, but a pool is per
		// processor.
		if made > relays/2 {
			t.Errorf("%d buffers made for %d flows that are active one at a time", made, relays)
		}
		cancel()
		ended.Wait()
	})
}

// A notifying is a stream that notifies when it can be read, like those of the
// stack, and that takes a buffer only then, like sockets.
type notifying struct{ *pipeEnd }

func (s notifying) CanRead() bool {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	return len(s.in.b) > 0 || s.in.err != nil
}

func (s notifying) readInto(l *pooledBuf) (int, error) {
	s.in.mu.Lock()
	for len(s.in.b) == 0 && s.in.err == nil {
		s.in.cond.Wait()
	}
	s.in.mu.Unlock()
	return s.Read(l.get())
}

func (s notifying) NotifyRead(ready func()) (stop func()) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.notify = ready
	return func() {
		s.in.mu.Lock()
		defer s.in.mu.Unlock()
		s.in.notify = nil
	}
}

func TestServeCallsOnCloseOnceLast(t *testing.T) {
	for range 200 {
		th := newHarness(t).knocked()
		done := th.serve()
		th.client.CloseWrite()
		go th.set.Kill(key)
		th.upstream.CloseWrite()
		<-done
		all := th.events.list()
		at := slices.Index(all, "closed")
		killedBefore := at < 0 && !slices.Contains(all, "complete")
		if at != len(all)-1 && !killedBefore {
			t.Fatalf("%q", all)
		}
	}
}

var _ net.Conn = (*pipeEnd)(nil)
