package auth_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// Both sides of a handshake, with a server proof.
func ExampleServer_Handshake() {
	alice, err := protocol.NewClient("alice", []byte("0123456789abcdef"))
	if err != nil {
		fmt.Println(err)
		return
	}
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		client := auth.Client{Identity: alice, Port: 22, Proof: true}
		if err := client.Handshake(context.Background(), near); err != nil {
			fmt.Println(err)
		}
		_, _ = io.WriteString(near, "and then the application")
		_ = near.Close()
	}()

	server := auth.Server{
		Port:    22,
		Clients: slices.Values([]*protocol.Client{alice}),
		Proof:   true,
		Authorize: func(_ context.Context, p auth.Peer, claim func() error) error {
			// Find a grant of p.Client; claim; and only then use the grant.
			return claim()
		},
	}
	peer, err := server.Handshake(context.Background(), far)
	fmt.Println(peer.Client.ID(), peer.Protocol, err)
	rest, _ := io.ReadAll(far)
	fmt.Printf("%s\n", rest)
	<-done
	// Output:
	// alice v2 <nil>
	// and then the application
}

// A listener of authenticated connections, and a dialer to it.
func ExampleNewListener() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	const port = 8443 // what the MACs speak of, on both sides
	listener := auth.NewListener(inner, &auth.Server{
		Port:    port,
		Clients: slices.Values([]*protocol.Client{alice}),
	}, auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()

	dialer := auth.Dialer{Client: &auth.Client{Identity: alice, Port: port}}
	conn, err := dialer.DialContext(context.Background(), "tcp", listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	accepted, err := listener.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = accepted.Close() }()
	fmt.Println(accepted.(*auth.Conn).Peer().Client.ID())
	// Output: alice
}
