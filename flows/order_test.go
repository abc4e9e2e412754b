package flows

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestServeDialsBeforeHandshake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t).knocked()
		answer := make(chan struct{})
		dial := th.plan.Dial
		th.plan.Dial = func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx)
			<-answer
			return c, err
		}
		done := th.serve()
		synctest.Wait()
		th.happened("dial")
		close(answer)
		synctest.Wait()
		th.happened("dial", "accept", "complete")
		th.client.CloseWrite()
		th.upstream.CloseWrite()
		<-done
		th.happened("dial", "accept", "complete", "close client", "close upstream", "closed")
		th.ended(CloseEOF)
	})
}

func TestServeMirrorsUpstreamFailure(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		dial         func(ctx context.Context) error
		first, after []string
		end          CloseReason
	}{
		"refused": {
			func(context.Context) error { return refused },
			[]string{"dial", "reset", "on-drop"},
			[]string{"accept", "complete", "authenticate", "dial", "abort client", "closed"}, CloseUpstreamRefused,
		},
		"silent": {
			silent,
			[]string{"dial", "drop", "on-drop"},
			[]string{"accept", "complete", "authenticate", "dial", "on-drop", "abort client", "closed"}, CloseUpstreamTimeout,
		},
		"given up by the kernel": {
			func(context.Context) error {
				return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}
			},
			[]string{"dial", "drop", "on-drop"},
			[]string{"accept", "complete", "authenticate", "dial", "on-drop", "abort client", "closed"}, CloseUpstreamTimeout,
		},
	} {
		dial := func(th *harness) {
			th.plan.Dial = func(ctx context.Context) (net.Conn, error) {
				th.events.add("dial")
				return nil, c.dial(ctx)
			}
		}
		t.Run(name+", dialed first", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).knocked()
				dial(th)
				<-th.serve()
				th.happened(c.first...)
				th.ended(c.end)
			})
		})
		t.Run(name+", dialed after authentication", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t).authenticated()
				dial(th)
				<-th.serve()
				th.happened(c.after...)
				th.ended(c.end)
			})
		})
	}
}

func TestServeAuthenticatesBeforeDial(t *testing.T) {
	bubble(t, func(t *testing.T) {
		th := newHarness(t)
		th.plan.Authenticate = func(context.Context, net.Conn) (string, error) {
			th.events.add("authenticate")
			time.Sleep(3 * time.Second)
			return "", errors.New("not a client")
		}
		<-th.serve()
		th.happened("accept", "complete", "authenticate", "abort client", "closed")
		th.ended(CloseUnauthenticated)
	})
}

func TestServeHandshakeDoneError(t *testing.T) {
	object := func(th *harness) func() error {
		return func() error { th.events.add("complete"); return errors.New("used up meanwhile") }
	}
	t.Run("dialed first", func(t *testing.T) {
		th := newHarness(t).knocked()
		th.plan.HandshakeDone = object(th)
		<-th.serve()
		// An in-memory upstream cannot be reset; it is closed.
		th.happened("dial", "accept", "complete", "abort client", "on-drop", "close upstream")
		th.ended(CloseNoGrant)
	})
	t.Run("authentication", func(t *testing.T) {
		th := newHarness(t).authenticated()
		th.plan.HandshakeDone = object(th)
		<-th.serve()
		th.happened("accept", "complete", "abort client", "on-drop")
		th.ended(CloseNoGrant)
	})
}

func TestServeHandshakeTimeout(t *testing.T) {
	th := newHarness(t).knocked()
	th.accept = errors.New("timed out")
	<-th.serve()
	th.happened("dial", "accept", "on-drop", "close upstream")
	th.ended(CloseHandshake)
}

func TestFlowClient(t *testing.T) {
	for name, th := range map[string]*harness{"by knock": newHarness(t).knocked(), "by authentication": newHarness(t).authenticated()} {
		t.Run(name, func(t *testing.T) {
			th.T = t
			done := th.serve()
			th.send(th.upstream, "welcome")
			th.receive(th.client, "welcome")
			th.set.mu.Lock()
			if f := th.set.flows[key]; f == nil || f.Client() != "alice" || f.Service != "ssh" || f.Key != key {
				t.Errorf("%+v", f)
			}
			th.set.mu.Unlock()
			th.client.CloseWrite()
			th.upstream.CloseWrite()
			<-done
			th.receiveEnd(th.client, io.EOF)
		})
	}
}

func TestKillInEveryState(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(th *harness)
		want    []string
	}{
		"while the upstream is dialed": {func(th *harness) {
			th.knocked().plan.Dial = func(ctx context.Context) (net.Conn, error) { return nil, held(ctx) }
		}, []string{"drop", "on-drop"}},
		"during the handshake": {func(th *harness) {
			th.knocked().hold = make(chan struct{})
		}, []string{"dial", "accept", "drop", "on-drop", "close upstream"}},
		"during the handshake before authentication": {func(th *harness) {
			th.authenticated().hold = make(chan struct{})
		}, []string{"accept", "drop", "on-drop"}},
		"during authentication": {func(th *harness) {
			th.plan.Authenticate = func(ctx context.Context, _ net.Conn) (string, error) { return "", held(ctx) }
		}, []string{"accept", "complete", "abort client", "closed"}},
		"while the upstream is dialed after authentication": {func(th *harness) {
			th.authenticated().plan.Dial = func(ctx context.Context) (net.Conn, error) { return nil, held(ctx) }
		}, []string{"accept", "complete", "authenticate", "on-drop", "abort client", "closed"}},
		"during the relay": {func(th *harness) {
			th.knocked()
		}, []string{"dial", "accept", "complete", "abort client", "close upstream", "close client", "close upstream", "closed"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				th := newHarness(t)
				c.prepare(th)
				th.plan.DialTimeout = time.Hour
				begin := time.Now()
				done := th.serve()
				synctest.Wait()
				th.set.Kill(Key{key.Target, key.Client}) // another
				th.set.Kill(key)
				<-done
				th.happened(c.want...)
				th.ended(CloseKilled)
				if time.Since(begin) != 0 {
					t.Errorf("it took %v", time.Since(begin))
				}
			})
		})
	}
}
