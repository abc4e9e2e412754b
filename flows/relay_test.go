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
	for name, ends := range map[string]func(w *world) (asks, answers *pipeEnd){
		"the client asks":   func(w *world) (*pipeEnd, *pipeEnd) { return w.client, w.upstream },
		"the upstream asks": func(w *world) (*pipeEnd, *pipeEnd) { return w.upstream, w.client },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t).knocked()
				done := w.serve()
				asks, answers := ends(w)
				go func() {
					w.receive(answers, request)
					w.receiveEnd(answers, io.EOF)
					time.Sleep(30 * time.Second) // within the idle time
					w.send(answers, reply)
					answers.CloseWrite()
				}()
				w.send(asks, request)
				asks.CloseWrite()
				w.receive(asks, reply)
				w.receiveEnd(asks, io.EOF)
				<-done
				w.ended(CloseEOF)
				up, down := len(request), len(reply)
				if asks == w.upstream {
					up, down = down, up
				}
				if got := w.set.Totals(); got.Up != uint64(up) || got.Down != uint64(down) || got.Flows != 1 {
					t.Errorf("%+v; wanted %d up and %d down", got, up, down)
				}
			})
		})
	}
}

func TestRelayIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t).knocked()
		done := w.serve()
		begin := time.Now()
		for range 10 {
			time.Sleep(w.plan.Idle - time.Second)
			w.send(w.upstream, "x")
			w.receive(w.client, "x")
		}
		last := time.Now()
		<-done
		if idle := time.Since(last); idle != w.plan.Idle {
			t.Errorf("ended %v after the last byte, %v after it began", idle, time.Since(begin))
		}
		w.ended(CloseIdle)
		w.receiveEnd(w.client, errReset)
	})
}

func TestRelayWithoutIdleTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t).knocked()
		w.plan.Idle = 0
		done := w.serve()
		time.Sleep(1000 * time.Hour)
		w.send(w.client, "still there?")
		w.receive(w.upstream, "still there?")
		w.set.Kill(key)
		<-done
	})
}

func TestIdleTimerStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t).knocked()
		done := w.serve()
		time.Sleep(w.plan.Idle - 1) // the clock fires while the flow ends
		w.client.CloseWrite()
		w.upstream.CloseWrite()
		<-done
		time.Sleep(10 * w.plan.Idle)
		w.ended(CloseEOF)
	})
}

func TestRelayFailureResetsBoth(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(w *world)
		end  CloseReason
	}{
		"the client resets":   {func(w *world) { w.client.Abort() }, CloseClientReset},
		"the upstream resets": {func(w *world) { w.upstream.Abort() }, CloseUpstreamReset},
		"the client resets after its FIN": {func(w *world) {
			w.client.CloseWrite()
			synctest.Wait()
			w.client.Abort()
			w.upstream.Write([]byte("x"))
		}, CloseClientReset},
		"the upstream resets while it is written to": {func(w *world) { w.fill(w.client); w.upstream.Abort() }, CloseUpstreamReset},
		"the client resets while it is written to":   {func(w *world) { w.fill(w.upstream); w.client.Abort() }, CloseClientReset},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t).knocked()
				done := w.serve()
				synctest.Wait()
				c.fail(w)
				<-done
				w.ended(c.end)
				if _, err := io.Copy(io.Discard, w.client); c.end == CloseUpstreamReset && !errors.Is(err, errReset) {
					t.Errorf("the client read %v", err)
				}
			})
		})
	}
}

// fill writes to s until the gateway takes no more.
func (w *world) fill(s *pipeEnd) {
	go s.Write(make([]byte, 10*streamRoom))
	synctest.Wait()
}

func TestKillUnblocksWrite(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"killed": func(w *world) { w.set.Kill(key) },
		"idle":   func(w *world) { time.Sleep(w.plan.Idle) },
		"drained": func(w *world) {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			if n := w.set.Drain(ctx); n != 1 {
				w.Errorf("%d flows were left", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t).knocked()
				done := w.serve()
				w.fill(w.client)
				w.fill(w.upstream)
				end(w)
				<-done
				if w.set.Len() != 0 {
					t.Error("it is still there")
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
		var worlds [relays]*world
		var ended sync.WaitGroup
		for i := range worlds {
			w := newWorld(t)
			worlds[i] = w
			near, far := pair(&w.events, "upstream")
			w.upstream = far
			ended.Go(func() {
				f := &Flow{Started: time.Now(), cancel: func(error) {}}
				set.relay(ctx, f, notifying{w.near}, notifying{near}, new(Plan))
			})
		}
		synctest.Wait()
		if made != 0 {
			t.Errorf("%d buffers taken before there was a byte to read", made)
		}
		for range 3 {
			for _, w := range worlds {
				w.send(w.client, "x")
				w.receive(w.upstream, "x")
				w.send(w.upstream, "y")
				w.receive(w.client, "y")
				synctest.Wait()
			}
		}
		// One after the other they can do with one; a pool is per processor,
		// though.
		if made > relays/2 {
			t.Errorf("%d buffers made for %d flows of which one moves at a time", made, relays)
		}
		cancel()
		ended.Wait()
	})
}

// notifying is a stream that says when it can be read, as the stack's do, or
// takes a buffer only then, as sockets do.
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
		w := newWorld(t).knocked()
		done := w.serve()
		w.client.CloseWrite()
		go w.set.Kill(key)
		w.upstream.CloseWrite()
		<-done
		all := w.events.list()
		at := slices.Index(all, "closed")
		killedBefore := at < 0 && !slices.Contains(all, "complete")
		if at != len(all)-1 && !killedBefore {
			t.Fatalf("%q", all)
		}
	}
}

var _ net.Conn = (*pipeEnd)(nil)
