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
		w := newWorld(t).knocked()
		answer := make(chan struct{})
		dial := w.plan.Dial
		w.plan.Dial = func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx)
			<-answer
			return c, err
		}
		done := w.serve()
		synctest.Wait()
		w.happened("dial")
		close(answer)
		synctest.Wait()
		w.happened("dial", "accept", "complete")
		w.client.CloseWrite()
		w.upstream.CloseWrite()
		<-done
		w.happened("dial", "accept", "complete", "close client", "close upstream", "closed")
		w.ended(CloseEOF)
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
			[]string{"dial", "refuse", "silence"},
			[]string{"accept", "complete", "authenticate", "dial", "abort client", "closed"}, CloseUpstreamRefused,
		},
		"silent": {
			silent,
			[]string{"dial", "ignore", "silence"},
			[]string{"accept", "complete", "authenticate", "dial", "silence", "abort client", "closed"}, CloseUpstreamTimeout,
		},
		"given up by the kernel": {
			func(context.Context) error {
				return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}
			},
			[]string{"dial", "ignore", "silence"},
			[]string{"accept", "complete", "authenticate", "dial", "silence", "abort client", "closed"}, CloseUpstreamTimeout,
		},
	} {
		dial := func(w *world) {
			w.plan.Dial = func(ctx context.Context) (net.Conn, error) {
				w.events.add("dial")
				return nil, c.dial(ctx)
			}
		}
		t.Run(name+", dialled first", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t).knocked()
				dial(w)
				<-w.serve()
				w.happened(c.first...)
				w.ended(c.end)
			})
		})
		t.Run(name+", dialled after authentication", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t).authenticated()
				dial(w)
				<-w.serve()
				w.happened(c.after...)
				w.ended(c.end)
			})
		})
	}
}

func TestServeAuthenticatesBeforeDial(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.plan.Authenticate = func(context.Context, net.Conn) (string, error) {
			w.events.add("authenticate")
			time.Sleep(3 * time.Second)
			return "", errors.New("not a client")
		}
		<-w.serve()
		w.happened("accept", "complete", "authenticate", "abort client", "closed")
		w.ended(CloseUnauthenticated)
	})
}

func TestServeHandshakeDoneError(t *testing.T) {
	object := func(w *world) func() error {
		return func() error { w.events.add("complete"); return errors.New("used up meanwhile") }
	}
	t.Run("dialled first", func(t *testing.T) {
		w := newWorld(t).knocked()
		w.plan.HandshakeDone = object(w)
		<-w.serve()
		// An in-memory upstream cannot be reset; it is closed.
		w.happened("dial", "accept", "complete", "abort client", "silence", "close upstream")
		w.ended(CloseNoGrant)
	})
	t.Run("authentication", func(t *testing.T) {
		w := newWorld(t).authenticated()
		w.plan.HandshakeDone = object(w)
		<-w.serve()
		w.happened("accept", "complete", "abort client", "silence")
		w.ended(CloseNoGrant)
	})
}

func TestServeHandshakeTimeout(t *testing.T) {
	w := newWorld(t).knocked()
	w.accept = errors.New("timed out")
	<-w.serve()
	w.happened("dial", "accept", "silence", "close upstream")
	w.ended(CloseHandshake)
}

func TestFlowClient(t *testing.T) {
	for name, w := range map[string]*world{"by knock": newWorld(t).knocked(), "by authentication": newWorld(t).authenticated()} {
		t.Run(name, func(t *testing.T) {
			w.T = t
			done := w.serve()
			w.send(w.upstream, "welcome")
			w.receive(w.client, "welcome")
			w.set.mu.Lock()
			if f := w.set.flows[key]; f == nil || f.Client() != "alice" || f.Service != "ssh" || f.Key != key {
				t.Errorf("%+v", f)
			}
			w.set.mu.Unlock()
			w.client.CloseWrite()
			w.upstream.CloseWrite()
			<-done
			w.receiveEnd(w.client, io.EOF)
		})
	}
}

func TestKillInEveryState(t *testing.T) {
	held := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		prepare func(w *world)
		want    []string
	}{
		"while the upstream is dialled": {func(w *world) {
			w.knocked().plan.Dial = func(ctx context.Context) (net.Conn, error) { return nil, held(ctx) }
		}, []string{"ignore", "silence"}},
		"during the handshake": {func(w *world) {
			w.knocked().hold = make(chan struct{})
		}, []string{"dial", "accept", "ignore", "silence", "close upstream"}},
		"during the handshake before authentication": {func(w *world) {
			w.authenticated().hold = make(chan struct{})
		}, []string{"accept", "ignore", "silence"}},
		"during authentication": {func(w *world) {
			w.plan.Authenticate = func(ctx context.Context, _ net.Conn) (string, error) { return "", held(ctx) }
		}, []string{"accept", "complete", "abort client", "closed"}},
		"while the upstream is dialled after authentication": {func(w *world) {
			w.authenticated().plan.Dial = func(ctx context.Context) (net.Conn, error) { return nil, held(ctx) }
		}, []string{"accept", "complete", "authenticate", "silence", "abort client", "closed"}},
		"during the relay": {func(w *world) {
			w.knocked()
		}, []string{"dial", "accept", "complete", "abort client", "close upstream", "close client", "close upstream", "closed"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				c.prepare(w)
				w.plan.DialTimeout = time.Hour
				begin := time.Now()
				done := w.serve()
				synctest.Wait()
				w.set.Kill(Key{key.Target, key.Client}) // another
				w.set.Kill(key)
				<-done
				w.happened(c.want...)
				w.ended(CloseKilled)
				if time.Since(begin) != 0 {
					t.Errorf("it took %v", time.Since(begin))
				}
			})
		})
	}
}
