package flows

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// embedded has the program take the connection; it comes out of the channel.
func (w *world) embedded() <-chan net.Conn {
	w.authenticated()
	conns := make(chan net.Conn, 1)
	w.plan.Dial = nil
	w.plan.Serve = func(_ context.Context, c net.Conn, client string) error {
		w.events.add("serve " + client)
		conns <- c
		return nil
	}
	return conns
}

func TestServeConnUntilClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		conns := w.embedded()
		done := w.serve()
		c := <-conns
		w.send(w.client, "question")
		w.receive(c, "question")
		w.send(c, "the answer")
		w.receive(w.client, "the answer")
		w.client.CloseWrite()
		w.receiveEnd(c, io.EOF)
		synctest.Wait()
		if w.set.Len() != 1 {
			t.Error("it ended before the program closed it")
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		<-done
		w.happened("accept", "complete", "authenticate", "serve alice", "close client", "closed")
		w.ended(CloseEOF)
		if got := w.set.Totals(); got.Up != 8 || got.Down != 10 || got.Flows != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestServeConnErrorResets(t *testing.T) {
	w := newWorld(t)
	w.embedded()
	w.plan.Serve = func(context.Context, net.Conn, string) error { return errors.New("too many") }
	<-w.serve()
	w.happened("accept", "complete", "authenticate", "abort client", "closed")
	w.ended(CloseUpstreamRefused)
}

func TestServeConnKillDrainIdle(t *testing.T) {
	for name, c := range map[string]struct {
		end func(w *world)
		why CloseReason
	}{
		"killed": {func(w *world) { w.set.Kill(key) }, CloseKilled},
		"drained": {func(w *world) {
			ctx, cancel := context.WithCancel(w.Context())
			cancel()
			w.set.Drain(ctx)
		}, CloseDrained},
		"silent":  {func(*world) { time.Sleep(time.Minute) }, CloseIdle},
		"aborted": {func(w *world) { w.near.Abort() }, CloseEOF},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				conns := w.embedded()
				done := w.serve()
				conn := <-conns
				time.Sleep(w.plan.Idle / 2)
				w.send(w.client, "x")
				w.receive(conn, "x")
				time.Sleep(w.plan.Idle / 2)
				if w.set.Len() != 1 {
					t.Fatal("it ended within the idle time")
				}
				blocked := make(chan error)
				go func() {
					_, err := conn.Write(make([]byte, 10*streamRoom))
					conn.Close()
					blocked <- err
				}()
				synctest.Wait()
				c.end(w)
				if err := <-blocked; err == nil {
					t.Error("the program wrote to a client that reads no more")
				}
				<-done
				w.ended(c.why)
				if err := conn.Close(); err != nil {
					t.Errorf("closing it afterwards: %v", err)
				}
			})
		})
	}
}

func TestServeConnAbort(t *testing.T) {
	w := newWorld(t)
	conns := w.embedded()
	done := w.serve()
	(<-conns).(Conn).Abort()
	<-done
	w.receiveEnd(w.client, errReset)
	w.happened("accept", "complete", "authenticate", "serve alice", "abort client", "closed")
	w.ended(CloseEOF)
}
