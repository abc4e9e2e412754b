package guard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

// hintless returns a Guard whose service can try two secrets.
func hintless(secrets *auth.Secrets, log *slog.Logger) (*guard.Guard, error) {
	return guard.New(guard.Options{
		Secrets: secrets, Log: log,
		Services: []guard.Service{{Name: "open", Port: open, Mode: guard.ModeAuth, Auth: guard.Auth{
			Protocols: auth.V2, Hint: protocol.HintNone, Buckets: []int{256, 512}, MaxTrials: 4, Proof: true, Deadline: 100 * time.Millisecond,
		}}},
	})
}

func TestNewRefusesTooManyKeysWithoutHints(t *testing.T) {
	_, err := hintless(auth.NewSecrets(alice, bob, carol), nil)
	if !errors.Is(err, guard.ErrOptions) || !strings.Contains(fmt.Sprint(err), "3 secrets are too many, the limit is 2") {
		t.Error(err)
	}
	if _, err := hintless(auth.NewSecrets(alice, bob), nil); err != nil {
		t.Error(err)
	}
}

func TestGuardOmitsKeysBeyondLimit(t *testing.T) {
	secrets := auth.NewSecrets(bob, carol)
	var mu sync.Mutex
	var log bytes.Buffer
	g, err := hintless(secrets, slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := g.Guard("open", inner, auth.ListenerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer ln.Close()
	defer stop()

	in := func(id *protocol.Client) bool {
		d := client.Dialer{Identity: id, Port: open, NoKnock: true, Timeout: timeout, Auth: auth.Client{
			Proof: true, Hint: protocol.HintNone, Buckets: []int{256, 512},
		}}
		conn, err := d.DialContext(ctx, "tcp", ln.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	logged := func(what string, times int) { // that the change is in force
		t.Helper()
		for deadline := time.Now().Add(timeout); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			n := strings.Count(log.String(), what)
			mu.Unlock()
			if n >= times {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %d times %q: %s", times, what, log.String())
			}
		}
	}
	secrets.Set(alice) // before the others in their order, and nevertheless the last to come
	logged("clients changed", 1)
	logged("first_omitted=[alice]", 1)
	if in(alice) || !in(bob) || !in(carol) {
		t.Error("existing clients must stay, and those beyond the limit be omitted")
	}
	dave, erin := identity("dave"), identity("erin")
	secrets.Replace(alice, identity("carol"), dave, erin) // bob is gone, and carol has the same secret
	logged("clients changed", 2)
	logged("first_omitted=\"[dave erin]\"", 1)
	if in(bob) || !in(alice) || !in(carol) || in(dave) {
		t.Error("a removal must take effect although there are too many, and its room be filled")
	}
}

// lockedWriter is a Writer for a log that the test reads concurrently.
type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

func TestGuardListenerCloseDoesNotWaitForKnock(t *testing.T) {
	w := newHarness(t, "127.0.0.1", func(o *guard.Options) {
		for i := range o.Services {
			if s := &o.Services[i]; s.Name == "api" {
				s.Auth.Deadline = timeout
			}
		}
	})
	conn, err := net.Dial("tcp", w.addrs[api])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	who := auth.Client{Identity: alice, Port: api, SessionID: []byte("16 bytes or more")}
	if err := who.Handshake(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // so that it waits for its knock
	start := time.Now()
	w.stop()
	if took := time.Since(start); took > timeout/4 {
		t.Errorf("closing took %v", took)
	}
	if n := w.result(auth.ResultCanceled); n != 1 {
		t.Errorf("%d handshakes were canceled", n)
	}
}
