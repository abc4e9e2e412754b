package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// listen returns a listener on loopback whose client is alice.
func listen(alice *protocol.Client, o auth.ListenerOptions) *auth.Listener {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return auth.NewListener(inner, &auth.Server{Port: 22, Clients: auth.NewSecrets(alice).All(), Deadline: 20 * time.Millisecond}, o)
}

// knockless dials a listener as a client.
func knockless(who *protocol.Client, l *auth.Listener) net.Conn {
	conn, err := (&auth.Dialer{Client: &auth.Client{Identity: who, Port: 22}}).DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	return conn
}

// Accept returns authenticated connections only, with their Peer.
func ExampleListener_Accept() {
	alice := identity("alice", "0123456789abcdef")
	listener := listen(alice, auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()
	near := knockless(alice, listener)
	defer func() { _ = near.Close() }()
	conn, err := listener.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	fmt.Println(conn.(*auth.Conn).Peer().ClientID())
	// Output: alice
}

// A connection is in flight until it is accepted or reset.
func ExampleListener_InFlight() {
	alice := identity("alice", "0123456789abcdef")
	listener := listen(alice, auth.ListenerOptions{})
	fmt.Println(listener.InFlight())
	near := knockless(alice, listener)
	defer func() { _ = near.Close() }()
	for listener.InFlight() == 0 { // as a metric would see it
		time.Sleep(time.Millisecond)
	}
	fmt.Println(listener.InFlight())
	_ = listener.Close() // resets it
	fmt.Println(listener.InFlight())
	// Output:
	// 0
	// 1
	// 0
}

// Addr is the address of the inner listener.
func ExampleListener_Addr() {
	listener := listen(identity("alice", "0123456789abcdef"), auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()
	fmt.Println(listener.Addr().Network(), listener.Addr().(*net.TCPAddr).IP)
	// Output: tcp 127.0.0.1
}

// Close ends Accept.
func ExampleListener_Close() {
	listener := listen(identity("alice", "0123456789abcdef"), auth.ListenerOptions{})
	done := make(chan error, 1)
	go func() {
		_, err := listener.Accept()
		done <- err
	}()
	fmt.Println(listener.Close())
	fmt.Println(errors.Is(<-done, net.ErrClosed))
	// Output:
	// <nil>
	// true
}

// Counters by result.
func ExampleEvent() {
	alice := identity("alice", "0123456789abcdef")
	events := make(chan auth.Event)
	listener := listen(alice, auth.ListenerOptions{Report: func(e auth.Event) { events <- e }})
	defer func() { _ = listener.Close() }()
	var counts [auth.NumResults]int
	for _, who := range []*protocol.Client{alice, identity("mallory", "a guess, no more"), alice} {
		conn := knockless(who, listener)
		e := <-events
		counts[e.Result]++
		fmt.Printf("%q %v\n", e.Peer.ClientID(), e.Err)
		_ = conn.Close()
	}
	fmt.Println(auth.ResultOK, counts[auth.ResultOK])
	// Output:
	// "alice" <nil>
	// "" auth: handshake failed: unknown: message does not open with this client's secret
	// "alice" <nil>
	// ok 2
}

// Each connection takes a token.
func ExampleRateLimiter_Allow() {
	limit, err := auth.NewRateLimiter(auth.Rate{PerSecond: 0.1, Burst: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	from := netip.MustParseAddr("192.0.2.1")
	fmt.Println(limit.Allow(from), limit.Allow(from))
	// Output: true false
}

// Invalid rates are refused.
func ExampleRate() {
	for _, r := range []auth.Rate{{PerSecond: 5}, {PerSecond: 0.5, Burst: 10, Sources: 1000}, {Burst: 10}} {
		_, err := auth.NewRateLimiter(r)
		fmt.Println(errors.Is(err, auth.ErrOptions))
	}
	// Output:
	// false
	// false
	// true
}

// inside is a custom Limiter that allows some networks only.
type inside []netip.Prefix

// Allow implements auth.Limiter.
func (in inside) Allow(remote netip.Addr) bool {
	for _, network := range in {
		if network.Contains(remote) {
			return true
		}
	}
	return false
}

// An allowlist of addresses: other connections are reset at once.
func ExampleLimiter() {
	alice := identity("alice", "0123456789abcdef")
	events := make(chan auth.Event, 1)
	var limit auth.Limiter = inside{netip.MustParsePrefix("10.0.0.0/8")}
	listener := listen(alice, auth.ListenerOptions{Limit: limit, Report: func(e auth.Event) { events <- e }})
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err == nil { // otherwise it was reset before the dial returned
		defer func() { _ = conn.Close() }()
	}
	fmt.Println((<-events).Result)
	// Output: limited
}

// careful wraps a Handshaker and records the time of the last client.
type careful struct {
	auth.Handshaker
	seen chan<- string
}

// Handshake implements auth.Handshaker.
func (c careful) Handshake(ctx context.Context, conn net.Conn) (auth.Peer, error) {
	peer, err := c.Handshaker.Handshake(ctx, conn)
	if err == nil {
		c.seen <- peer.ClientID()
	}
	return peer, err
}

// A wrapper of a Server. Its failures must be as late as the Server's.
func ExampleHandshaker() {
	alice := identity("alice", "0123456789abcdef")
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	seen := make(chan string, 1)
	var server auth.Handshaker = careful{&auth.Server{Port: 22, Clients: auth.NewSecrets(alice).All()}, seen}
	listener := auth.NewListener(inner, server, auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()
	conn := knockless(alice, listener)
	defer func() { _ = conn.Close() }()
	fmt.Println(<-seen)
	// Output: alice
}
