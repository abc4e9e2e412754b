package auth_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// meet does a handshake over a pipe and returns the server's result.
func meet(server *auth.Server, client *auth.Client) (auth.Peer, error) {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = client.Handshake(context.Background(), near) // without Proof it does not learn the outcome
	}()
	peer, err := server.Handshake(context.Background(), far)
	_, _ = far.Close(), near.Close()
	<-done
	return peer, err
}

// Candidates for a single connection.
func ExampleServer_HandshakeWith() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- (&auth.Client{Identity: alice, Port: 22}).Handshake(context.Background(), near)
	}()
	server := auth.Server{Port: 22}
	peer, err := server.HandshakeWith(context.Background(), far, slices.Values([]*protocol.Client{alice}))
	fmt.Println(peer.ClientID(), err)
	fmt.Println(<-done)
	// Output:
	// alice <nil>
	// <nil>
}

// The client's side: with Proof, success means that the server has the secret
// too.
func ExampleClient_Handshake() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server := auth.Server{Port: 22, Clients: slices.Values([]*protocol.Client{alice}), Proof: true}
		_, _ = server.Handshake(context.Background(), far)
	}()
	client := auth.Client{Identity: alice, Port: 22, Proof: true}
	fmt.Println(client.Handshake(context.Background(), near))
	<-done
	// Output: <nil>
}

// DialContext returns the dialled connection: the application's bytes are next.
func ExampleDialer_DialContext() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	listener := auth.NewListener(inner, &auth.Server{
		Port: 8443, Clients: slices.Values([]*protocol.Client{alice}), Proof: true,
	}, auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()

	dialer := auth.Dialer{Client: &auth.Client{Identity: alice, Port: 8443, Proof: true}}
	conn, err := dialer.DialContext(context.Background(), "tcp", listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_, tcp := conn.(*net.TCPConn)
	fmt.Println("TCP:", tcp)
	// Output: TCP: true
}

// Check reports invalid options before a connection fails.
func ExampleServer_Check() {
	server := auth.Server{}
	err := server.Check()
	fmt.Println(errors.Is(err, auth.ErrOptions), err)
	// Output: true auth: invalid options: set Port to the protected port
}

// A policy: it is called when all else is verified, claims the message's nonce,
// and then uses a permission of the client.
func ExampleServer_authorize() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	left := map[string]int{"alice": 1}
	server := auth.Server{
		Port: 22, Clients: slices.Values([]*protocol.Client{alice}), Deadline: 20 * time.Millisecond,
		Authorize: func(_ context.Context, p auth.Peer, claim func() error) error {
			if left[p.ClientID()] == 0 {
				return errors.New("no more today")
			}
			if err := claim(); err != nil {
				return err
			}
			left[p.ClientID()]--
			return nil
		},
	}
	for range 2 {
		_, err := meet(&server, &auth.Client{Identity: alice, Port: 22})
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// auth: handshake failed: unauthorized: no more today
}

// Candidates by the local address of a connection. The answer comes from memory.
func ExampleServer_resolve() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	tenants := map[string]*auth.Secrets{"pipe": auth.NewSecrets(alice)}
	server := auth.Server{
		Port: 22,
		Resolve: func(conn net.Conn) iter.Seq[*protocol.Client] {
			if tenant := tenants[conn.LocalAddr().String()]; tenant != nil {
				return tenant.All()
			}
			return nil // no client
		},
	}
	peer, err := meet(&server, &auth.Client{Identity: alice, Port: 22})
	fmt.Println(peer.ClientID(), err)
	// Output: alice <nil>
}

// A set of clients that changes while servers use it.
func ExampleSecrets() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	bob, _ := protocol.NewClient("bob", []byte("fedcba9876543210"))
	secrets := auth.NewSecrets(alice)
	server := auth.Server{Port: 22, Clients: secrets.All(), Deadline: 20 * time.Millisecond}

	changed := secrets.Changed()
	secrets.Set(bob)
	<-changed // wakes goroutines that use the set
	peer, err := meet(&server, &auth.Client{Identity: bob, Port: 22})
	fmt.Println(peer.ClientID(), err, secrets.Len())

	secrets.Remove("bob")
	_, err = meet(&server, &auth.Client{Identity: bob, Port: 22})
	fmt.Println(auth.ResultOf(err), len(secrets.Of("bob")))
	// Output:
	// bob <nil> 2
	// unknown 0
}

// Both secrets are valid while a client changes from one to the other.
func ExampleSecrets_Add() {
	before, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	after, _ := protocol.NewClient("alice", []byte("fedcba9876543210"))
	secrets := auth.NewSecrets(before)
	secrets.Add(after)
	fmt.Println(len(secrets.Of("alice")))
	secrets.Set(after)
	fmt.Println(len(secrets.Of("alice")))
	secrets.Replace() // empty
	fmt.Println(secrets.Len())
	// Output:
	// 2
	// 1
	// 0
}

// A captured message is refused for as long as it is fresh.
func ExampleMemoryReplay() {
	replay := auth.NewMemoryReplay(nil)
	until := time.Now().Add(time.Minute)
	nonce := []byte("of some message")
	fmt.Println(replay.Claim("alice", nonce, until))
	err := replay.Claim("alice", nonce, until)
	fmt.Println(errors.Is(err, auth.ErrReplayed), err)
	fmt.Println(replay.Claim("bob", nonce, until))
	// Output:
	// <nil>
	// true auth: this message was seen before
	// <nil>
}

// At most two connections at once from one address, and one more each second:
// auth.NewListener(inner, server, auth.ListenerOptions{Limit: limit}) uses it.
func ExampleNewRateLimiter() {
	limit, err := auth.NewRateLimiter(auth.Rate{PerSecond: 1, Burst: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	from := netip.MustParseAddr("2001:db8::1")
	neighbor := netip.MustParseAddr("2001:db8::2") // of the same /64
	fmt.Println(limit.Allow(from), limit.Allow(neighbor), limit.Allow(from))
	fmt.Println(limit.Allow(netip.MustParseAddr("192.0.2.1")))
	// Output:
	// true true false
	// true
}

// The outcome of each connection, for logs and counters. Peers learn nothing of
// it.
func ExampleListenerOptions_report() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	events := make(chan string)
	listener := auth.NewListener(inner, &auth.Server{
		Port: 8443, Clients: slices.Values([]*protocol.Client{alice}), Deadline: 20 * time.Millisecond,
	}, auth.ListenerOptions{
		MaxPerSource: 8,
		Report: func(e auth.Event) {
			who := "unknown client"
			if e.Client != nil {
				who = e.Client.ID()
			}
			events <- fmt.Sprintf("%s: %v, clock ahead by about %v", who, e.Result, e.ClockOffset.Round(time.Minute))
		},
	})
	defer func() { _ = listener.Close() }()
	mallory, _ := protocol.NewClient("mallory", []byte("a guess, no more"))
	for _, client := range []*auth.Client{
		{Identity: alice, Port: 8443},
		{Identity: alice, Port: 8443, Now: func() time.Time { return time.Now().Add(time.Hour) }},
		{Identity: mallory, Port: 8443},
	} {
		conn, err := (&auth.Dialer{Client: client}).DialContext(context.Background(), "tcp", listener.Addr().String())
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(<-events)
		_ = conn.Close()
	}
	fmt.Println(listener.InFlight() > 0) // alice's, which was not accepted
	// Output:
	// alice: ok, clock ahead by about 0s
	// alice: stale, clock ahead by about 1h0m0s
	// unknown client: unknown, clock ahead by about 0s
	// true
}

// The reason for a failed handshake, for the operator.
func ExampleResultOf() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	server := auth.Server{
		Port: 22, Clients: slices.Values([]*protocol.Client{alice}), Deadline: 20 * time.Millisecond,
		Now: func() time.Time { return time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC) },
	}
	late := func() time.Time { return time.Date(2024, 1, 1, 11, 59, 19, 0, time.UTC) }
	_, err := meet(&server, &auth.Client{Identity: alice, Port: 22, Now: late})
	fmt.Println(auth.ResultOf(err), auth.ResultOf(nil))
	var failure *auth.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Client.ID(), failure.ClockOffset)
	}
	fmt.Println(err)
	// Output:
	// stale ok
	// alice -41s
	// auth: handshake failed: stale (clock differs by -41s)
}

// A server that accepts the older format only.
func ExampleProtocol() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	server := auth.Server{
		Port: 22, Clients: slices.Values([]*protocol.Client{alice}),
		Protocols: auth.V1, Deadline: 20 * time.Millisecond,
	}
	for _, format := range []auth.Protocol{auth.V1, auth.V2} {
		_, err := meet(&server, &auth.Client{Identity: alice, Port: 22, Protocol: format})
		fmt.Println(format, auth.ResultOf(err))
	}
	fmt.Println(auth.V1 | auth.V2)
	// Output:
	// v1 ok
	// v2 malformed
	// v1|v2
}
