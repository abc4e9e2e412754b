package auth

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestServerWindowIsInclusive(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		now := time.UnixMilli(1790000000123)
		s := &Server{Port: testPort, Clients: clients(alice), Now: func() time.Time { return now }}
		for _, c := range []struct {
			diff time.Duration
			want Result
		}{
			{0, ResultOK},
			{DefaultWindow, ResultOK},
			{-DefaultWindow, ResultOK},
			{DefaultWindow + time.Millisecond, ResultStale},
			{-DefaultWindow - time.Millisecond, ResultStale},
			{200 * 365 * 24 * time.Hour, ResultStale},
		} {
			raw := message(t, &Client{Identity: alice, Port: testPort, Now: func() time.Time { return now.Add(c.diff) }})
			o := handshake(s, raw, 4096, false, nil)
			if got := ResultOf(o.err); got != c.want {
				t.Errorf("%v: %v, want %v", c.diff, o.err, c.want)
			}
			var failure *Error
			if errors.As(o.err, &failure) && (failure.ClockOffset != c.diff || failure.Client != alice) {
				t.Errorf("%v: reported %v of %v", c.diff, failure.ClockOffset, failure.Client)
			}
		}
	})
}

// deafConn is a connection whose peer does not accept the proof.
type deafConn struct{ net.Conn }

func (deafConn) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

func TestErrorReportsClockOffset(t *testing.T) {
	const diff = 1234 * time.Millisecond
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		now := time.UnixMilli(1790000000123)
		s := &Server{Port: testPort, Clients: clients(alice), Proof: true, Now: func() time.Time { return now }}
		raw := message(t, &Client{Identity: alice, Port: testPort, Proof: true, Now: func() time.Time { return now.Add(diff) }})
		o := handshake(s, raw, 4096, false, func(c net.Conn) net.Conn { return deafConn{c} })
		var failure *Error
		if !errors.As(o.err, &failure) || failure.Client != alice || failure.ClockOffset != diff {
			t.Errorf("the proof was not taken: %+v", failure)
		}
	})
}

func TestServerClaimsNonceLast(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		now, sent := time.Now(), time.Now()
		replay := NewMemoryReplay(nil)
		grants, calls := 1, 0
		server := func() *Server {
			return &Server{
				Port: testPort, Clients: clients(alice), Replay: replay, Proof: true,
				Now: func() time.Time { return now },
				Authorize: func(_ context.Context, _ Peer, claim func() error) error {
					calls++
					if grants == 0 {
						return errors.New("no grant")
					}
					if err := claim(); err != nil {
						return err
					}
					grants--
					return nil
				},
			}
		}
		raw := message(t, &Client{Identity: alice, Port: testPort, Proof: true, Now: func() time.Time { return sent }})
		expect := func(s *Server, want Result, wantCalls, wantGrants int) {
			t.Helper()
			o := handshake(s, raw, 4096, false, nil)
			if ResultOf(o.err) != want || calls != wantCalls || grants != wantGrants {
				t.Fatalf("%v, %d calls, %d grants; want %v, %d, %d", o.err, calls, grants, want, wantCalls, wantGrants)
			}
		}
		now = sent.Add(time.Hour)
		expect(server(), ResultStale, 0, 1)
		now = sent
		without := server()
		without.Proof = false
		expect(without, ResultProof, 0, 1)
		grants = 0
		expect(server(), ResultUnauthorized, 1, 0)
		grants = 1
		expect(server(), ResultOK, 2, 0)
		grants = 1
		expect(server(), ResultReplay, 3, 1)
	})
}

func TestServerRefusesReplay(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Port: testPort, Clients: clients(alice)}
		raw := message(t, &Client{Identity: alice, Port: testPort})
		results := make([]Result, 30)
		var wait sync.WaitGroup
		for i := range results {
			wait.Go(func() { results[i] = ResultOf(handshake(s, raw, 100, false, nil).err) })
		}
		wait.Wait()
		slices.Sort(results)
		if results[0] != ResultOK || results[1] != ResultReplay || results[len(results)-1] != ResultReplay {
			t.Errorf("%v", results)
		}
	})
}

func TestHandshakeEndsWithContext(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		for _, stream := range [][]byte{nil, bytes.Repeat([]byte{9}, 5000)} {
			s := &Server{Port: testPort, Clients: clients(alice)}
			near, far := net.Pipe()
			var wait sync.WaitGroup
			wait.Go(func() { _, _ = near.Write(stream) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			_, err := s.Handshake(ctx, far)
			if got := time.Since(start); got != time.Second || err == nil {
				t.Errorf("after %v: %v", got, err)
			}
			if stream == nil && (ResultOf(err) != ResultCanceled || !errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("%v", err)
			}
			cancel()
			near.Close()
			far.Close()
			wait.Wait()

			near, far = net.Pipe()
			ctx, cancel = context.WithCancel(t.Context())
			cancel()
			if err := (&Client{Identity: alice, Port: testPort}).Handshake(ctx, near); ResultOf(err) != ResultCanceled {
				t.Errorf("client: %v", err)
			}
			near.Close()
			far.Close()
		}
	})
}
