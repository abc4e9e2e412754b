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

// embedded makes the program serve the connection, which it sends on the
// channel.
func (th *harness) embedded() <-chan net.Conn {
	th.authenticated()
	conns := make(chan net.Conn, 1)
	th.plan.Dial = nil
	th.plan.Serve = func(_ context.Context, c net.Conn, client string) error {
		th.events.add("serve " + client)
		conns <- c
		return nil
	}
	return conns
}

func TestServeConnUntilClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t)
		conns := th.embedded()
		done := th.serve()
		c := <-conns
		th.send(th.client, "question")
		th.receive(c, "question")
		th.send(c, "the answer")
		th.receive(th.client, "the answer")
		th.client.CloseWrite()
		th.receiveEnd(c, io.EOF)
		synctest.Wait()
		if th.set.Len() != 1 {
			t.Error("the flow ended before the program closed it")
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		<-done
		th.happened("accept", "complete", "authenticate", "serve alice", "close client", "closed")
		th.ended(CloseEOF)
		if got := th.set.Totals(); got.Up != 8 || got.Down != 10 || got.Flows != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestServeConnErrorResets(t *testing.T) {
	th := newHarness(t)
	th.embedded()
	th.plan.Serve = func(context.Context, net.Conn, string) error { return errors.New("too many") }
	<-th.serve()
	th.happened("accept", "complete", "authenticate", "abort client", "closed")
	th.ended(CloseUpstreamRefused)
}

func TestServeConnKillDrainIdle(t *testing.T) {
	for name, c := range map[string]struct {
		end func(th *harness)
		why CloseReason
	}{
		"killed": {func(th *harness) { th.set.Kill(key) }, CloseKilled},
		"drained": {func(th *harness) {
			ctx, cancel := context.WithCancel(th.Context())
			cancel()
			th.set.Drain(ctx)
		}, CloseDrained},
		"silent":  {func(*harness) { time.Sleep(time.Minute) }, CloseIdle},
		"aborted": {func(th *harness) { th.near.Abort() }, CloseEOF},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t)
				conns := th.embedded()
				done := th.serve()
				conn := <-conns
				time.Sleep(th.plan.Idle / 2)
				th.send(th.client, "x")
				th.receive(conn, "x")
				time.Sleep(th.plan.Idle / 2)
				if th.set.Len() != 1 {
					t.Fatal("the flow ended within the idle time")
				}
				blocked := make(chan error)
				go func() {
					_, err := conn.Write(make([]byte, 10*streamRoom))
					conn.Close()
					blocked <- err
				}()
				synctest.Wait()
				c.end(th)
				if err := <-blocked; err == nil {
					t.Error("write to a dead client succeeded")
				}
				<-done
				th.ended(c.why)
				if err := conn.Close(); err != nil {
					t.Errorf("close afterwards: %v", err)
				}
			})
		})
	}
}

func TestServeConnAbort(t *testing.T) {
	th := newHarness(t)
	conns := th.embedded()
	done := th.serve()
	(<-conns).(Conn).Abort()
	<-done
	th.receiveEnd(th.client, errReset)
	th.happened("accept", "complete", "authenticate", "serve alice", "abort client", "closed")
	th.ended(CloseEOF)
}
