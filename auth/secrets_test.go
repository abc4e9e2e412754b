package auth

import (
	"context"
	"iter"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/knockgw/knockgw/protocol"
)

func ids(clients iter.Seq[*protocol.Client]) (all []string) {
	for c := range clients {
		all = append(all, c.ID())
	}
	return all
}

func TestSecretsChange(t *testing.T) {
	alice, bob, carol := identity(t, "alice"), identity(t, "bob"), identity(t, "carol")
	later, err := protocol.NewClient("alice", []byte("another secret of alice's"))
	if err != nil {
		t.Fatal(err)
	}
	var s Secrets
	want := func(all ...string) {
		t.Helper()
		if got := ids(s.All()); !slices.Equal(got, all) || s.Len() != len(all) {
			t.Errorf("%q, want %q", got, all)
		}
	}
	want()
	s.Set(bob)
	s.Set(alice)
	want("alice", "bob")
	s.Add(later)
	want("alice", "alice", "bob")
	if of := s.Of("alice"); len(of) != 2 || of[0] != alice || of[1] != later {
		t.Errorf("%v", of)
	}
	s.Set(later)
	want("alice", "bob")
	if !s.Remove("alice") || s.Remove("alice") {
		t.Error("alice was removed twice, or never")
	}
	want("bob")
	before := s.All()
	s.Replace(carol, alice)
	want("alice", "carol")
	if got := ids(before); !slices.Equal(got, []string{"alice", "carol"}) {
		t.Errorf("ranged over later: %q", got)
	}
	for c := range s.All() {
		s.Replace() // in the middle of it
		if c != alice {
			t.Error("the set changed under its reader")
		}
		break
	}
	want()
}

func TestSecretsChanged(t *testing.T) {
	var s Secrets
	for _, change := range []func(){
		func() { s.Set(identity(t, "alice")) },
		func() { s.Add(identity(t, "alice")) },
		func() { s.Remove("alice") },
		func() { s.Replace() },
	} {
		changed := s.Changed()
		select {
		case <-changed:
			t.Error("changed before it was")
		default:
		}
		change()
		select {
		case <-changed:
		default:
			t.Error("the channel was not closed")
		}
	}
}

func TestSecretsConcurrentUse(t *testing.T) {
	var s Secrets
	var wait sync.WaitGroup
	for _, id := range []string{"a", "b", "c", "d"} {
		c := identity(t, id)
		wait.Go(func() {
			for range 100 {
				s.Set(c)
				found := false
				for other := range s.All() {
					found = found || other == c
				}
				if !found || !s.Remove(id) {
					t.Error("a change was lost")
				}
			}
		})
	}
	wait.Wait()
	if s.Len() != 0 {
		t.Errorf("%d are left", s.Len())
	}
}

func TestServerResolvesOncePerConnection(t *testing.T) {
	alice, bob := identity(t, "alice"), identity(t, "bob")
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var from net.Conn
		secrets := NewSecrets(bob)
		s := &Server{
			Port: testPort, Clients: clients(alice),
			Resolve: func(conn net.Conn) iter.Seq[*protocol.Client] {
				asked++
				from = conn
				return secrets.All()
			},
		}
		try := func(id *protocol.Client) error {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			var wait sync.WaitGroup
			wait.Go(func() { _ = (&Client{Identity: id, Port: testPort}).Handshake(t.Context(), near) })
			_, err := s.Handshake(context.Background(), far)
			wait.Wait()
			if from != far {
				t.Error("it was asked about another connection")
			}
			return err
		}
		if err := try(bob); err != nil {
			t.Error(err)
		}
		if err := try(alice); ResultOf(err) != ResultUnknown {
			t.Errorf("of Clients: %v", err)
		}
		secrets.Set(alice)
		if err := try(alice); err != nil {
			t.Error(err)
		}
		secrets.Remove("bob")
		if err := try(bob); ResultOf(err) != ResultUnknown {
			t.Errorf("removed: %v", err)
		}
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}
