package auth

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

func TestServerDistinguishesIDsWithSameSecret(t *testing.T) {
	secret := []byte(strings.Repeat("s", 16))
	var shared []*protocol.Client
	for _, id := range []string{"a", "b", "c"} {
		c, err := protocol.NewClient(id, secret)
		if err != nil {
			t.Fatal(err)
		}
		shared = append(shared, c)
	}
	synctest.Test(t, func(t *testing.T) {
		for _, format := range []Protocol{V1, V2} {
			for _, want := range shared {
				s := &Server{Port: testPort, Clients: clients(shared...)}
				o := handshake(s, message(t, &Client{Identity: want, Port: testPort, Protocol: format}), 4096, false, nil)
				if o.err != nil || o.peer.Client != want {
					t.Errorf("%v: %v instead of %v, %v", format, o.peer.Client, want, o.err)
				}
			}
		}
	})
}

func TestServerMaxTrials(t *testing.T) {
	all := make([]*protocol.Client, 14)
	for i := range all {
		all[i] = identity(t, strings.Repeat("x", i+1))
	}
	s := &Server{Port: testPort, Clients: clients(all[:13]...), Hint: protocol.HintNone}
	if err := s.Check(); !errors.Is(err, ErrOptions) { // 13 x 5 = 65
		t.Errorf("13 clients: %v", err)
	}
	s.Clients = clients(all[:12]...)
	if err := s.Check(); err != nil {
		t.Errorf("12 clients: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		// Candidates of a single handshake are limited there.
		s := &Server{Port: testPort, Hint: protocol.HintNone, MaxTrials: len(all) - 1, Protocols: V2}
		for i, want := range map[int]Result{12: ResultOK, 13: ResultUnknown} {
			s.Clients = nil
			near, far := net.Pipe()
			var wait sync.WaitGroup
			wait.Go(func() {
				_, _ = near.Write(message(t, &Client{Identity: all[i], Port: testPort, Hint: protocol.HintNone, Buckets: []int{128}}))
			})
			_, err := s.HandshakeWith(t.Context(), far, clients(all...))
			if ResultOf(err) != want {
				t.Errorf("client %d: %v, want %v", i, err, want)
			}
			near.Close()
			far.Close()
			wait.Wait()
		}
	})
}

func TestServerCheck(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		for _, s := range []*Server{
			{},
			{Port: 1, Protocols: 8},
			{Port: 1, Hint: "half"},
			{Port: 1, MaxFrame: 3},
			{Port: 1, Deadline: -1},
			{Port: 1, Buckets: []int{}},
			{Port: 1, Buckets: []int{2048}},
			{Port: 1, Buckets: []int{64, 128}},
		} {
			if err := s.Check(); !errors.Is(err, ErrOptions) {
				t.Errorf("%+v: %v", s.resolve(), err)
			}
			if s.Deadline < 0 {
				continue
			}
			o := handshake(s, []byte("hello"), 5, false, nil)
			if ResultOf(o.err) != ResultMisconfigured || o.elapsed != DefaultDeadline || len(o.answer) != 0 {
				t.Errorf("%v after %v", o.err, o.elapsed)
			}
		}
		for _, c := range []*Client{
			{Port: 1}, {Identity: alice}, {Identity: alice, Port: 1, Protocol: V1 | V2}, {Identity: alice, Port: 1, Hint: "half"},
		} {
			if _, _, err := c.encode(); !errors.Is(err, ErrOptions) {
				t.Errorf("%+v: %v", c, err)
			}
		}
	})
}

func TestClientRefusesWrongProof(t *testing.T) {
	alice := identity(t, "alice")
	for _, format := range []Protocol{V1, V2} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			var wait sync.WaitGroup
			wait.Go(func() {
				_, _ = io.ReadAtLeast(far, make([]byte, 1024), 1)
				_, _ = far.Write(make([]byte, protocol.ProofSize))
			})
			err := (&Client{Identity: alice, Port: testPort, Protocol: format, Proof: true}).Handshake(t.Context(), near)
			if ResultOf(err) != ResultProof {
				t.Errorf("%v", err)
			}
			wait.Wait()
		})
	}
}

func TestServerRequiresAuthorizeToClaim(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Port: testPort, Clients: clients(alice), Authorize: func(context.Context, Peer, func() error) error { return nil }}
		if o := handshake(s, message(t, &Client{Identity: alice, Port: testPort}), 4096, false, nil); ResultOf(o.err) != ResultUnauthorized {
			t.Errorf("%v", o.err)
		}
		s = &Server{Port: testPort, Clients: clients(alice), Authorize: func(_ context.Context, _ Peer, claim func() error) error {
			_ = claim() // not telling its error does not help either
			return nil
		}}
		raw := message(t, &Client{Identity: alice, Port: testPort})
		for _, want := range []Result{ResultOK, ResultReplay} {
			if o := handshake(s, raw, 4096, false, nil); ResultOf(o.err) != want {
				t.Errorf("%v, want %v", o.err, want)
			}
		}
	})
}

// timeless is a conn without deadlines.
type timeless struct{ net.Conn }

func (timeless) SetDeadline(time.Time) error { return errors.ErrUnsupported }

func TestServerWithoutConnDeadlines(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Port: testPort, Clients: clients(alice)}
		o := handshake(s, nil, 1, false, func(c net.Conn) net.Conn { return timeless{c} })
		if ResultOf(o.err) != ResultClosed || !errors.Is(o.err, errors.ErrUnsupported) || o.elapsed != DefaultDeadline {
			t.Errorf("%v after %v", o.err, o.elapsed)
		}
	})
}
