package auth_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// An http.Server whose handlers know the client of a request. ServeTLS works as
// well.
func ExampleConnContext() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	const port = 8443 // the protected port, which both sides know
	listener := auth.NewListener(inner, &auth.Server{
		Port:    port,
		Clients: slices.Values([]*protocol.Client{alice}),
	}, auth.ListenerOptions{})
	server := &http.Server{
		ConnContext: auth.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, ok := auth.PeerFromContext(r.Context())
			if !ok {
				http.Error(w, "not authenticated", http.StatusForbidden)
				return
			}
			fmt.Fprintf(w, "hello, %s", peer.ClientID())
		}),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()

	dialer := auth.Dialer{Client: &auth.Client{Identity: alice, Port: port, Proof: false}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	response, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(response.Body)
	fmt.Printf("%s %v\n", body, err)
	_ = response.Body.Close()
	transport.CloseIdleConnections()
	_ = server.Close() // closes listener, too
	fmt.Println(<-done)
	// Output:
	// hello, alice <nil>
	// http: Server closed
}

// The context of a handler has the Peer.
func ExamplePeerFromContext() {
	handle := func(ctx context.Context) {
		peer, ok := auth.PeerFromContext(ctx)
		if !ok {
			fmt.Println("none")
			return
		}
		fmt.Printf("%s by %s, knocked with %q, extensions %q\n", peer.ClientID(), peer.Protocol, peer.Method(), peer.Extensions())
	}
	conn := accepted(&auth.Client{Method: protocol.MethodUDP, Extensions: []byte("v=2")})
	defer func() { _ = conn.Close() }()
	handle(auth.ConnContext(context.Background(), conn)) // what an http.Server does
	handle(context.Background())
	// Output:
	// alice by v2, knocked with "udp", extensions "v=2"
	// none
}

// PeerOf finds the Peer under wrappers of a connection.
func ExamplePeerOf() {
	conn := accepted(&auth.Client{})
	defer func() { _ = conn.Close() }()
	peer, ok := auth.PeerOf(tls.Server(conn, &tls.Config{}))
	fmt.Println(peer.ClientID(), ok)
	// Output: alice true
}

// An accepted connection has its Peer; NetConn is the connection of the inner
// listener.
func ExampleConn() {
	conn := accepted(&auth.Client{SessionID: []byte("16 bytes or more")}).(*auth.Conn)
	defer func() { _ = conn.Close() }()
	fmt.Printf("%s, session %q\n", conn.Peer().ClientID(), conn.Peer().SessionID())
	_, tcp := conn.NetConn().(*net.TCPConn)
	fmt.Println("TCP:", tcp)
	fmt.Println("half-closed:", conn.CloseWrite() == nil)
	// Output:
	// alice, session "16 bytes or more"
	// TCP: true
	// half-closed: true
}

// accepted returns a connection of alice, with the options of c, as Accept does.
func accepted(c *auth.Client) net.Conn {
	const port = 8443
	alice, err := protocol.NewClient("alice", []byte("0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	listener := auth.NewListener(inner, &auth.Server{Port: port, Clients: slices.Values([]*protocol.Client{alice})}, auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()
	c.Identity, c.Port = alice, port
	near, err := (&auth.Dialer{Client: c}).DialContext(context.Background(), "tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	_ = near.Close()
	return conn
}
