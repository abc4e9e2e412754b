package guard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

// A web server for clients that knock and authenticate, without privileges and
// on any system.
func Example() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	knocks, err := net.ListenPacket("udp", "127.0.0.1:0") // ":62201" where clients are elsewhere
	if err != nil {
		fmt.Println(err)
		return
	}
	const port = 8443 // the protected port, which both sides know
	g, err := guard.New(guard.Options{
		Knocks:   []net.PacketConn{knocks},
		Secrets:  auth.NewSecrets(alice),
		Services: []guard.Service{{Name: "api", Port: port, Mode: guard.ModeKnockAuth}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := g.Guard("api", inner, auth.ListenerOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{
		ConnContext: auth.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := auth.PeerFromContext(r.Context())
			fmt.Fprintf(w, "hello, %s", peer.ClientID())
		}),
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { fmt.Println("guard:", g.Run(ctx)) })
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	dialer := &client.Dialer{
		Identity: alice, Port: port,
		KnockPort: uint16(knocks.LocalAddr().(*net.UDPAddr).Port),
	}
	transport := &http.Transport{DialContext: dialer.DialContext}
	response, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(response.Body)
	fmt.Printf("%s\n", body)
	_ = response.Body.Close()
	transport.CloseIdleConnections()

	_ = server.Close() // closes listener, too
	fmt.Println("http:", <-served)
	stop()
	running.Wait()
	// Output:
	// hello, alice
	// http: http: Server closed
	// guard: <nil>
}

// Knocks as events, without a listener: for a program that acts on them itself.
func ExampleOptions_knocked() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	knocks, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	events := make(chan guard.KnockEvent)
	g, err := guard.New(guard.Options{
		Knocks:   []net.PacketConn{knocks},
		Secrets:  auth.NewSecrets(alice),
		Services: []guard.Service{{Name: "garage", Port: 1, Mode: guard.ModeKnock, GrantTTL: 1}},
		Knocked:  func(e guard.KnockEvent) { events <- e },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { _ = g.Run(ctx) })

	at := knocks.LocalAddr().(*net.UDPAddr).AddrPort()
	dialer := &client.Dialer{Identity: alice, Port: 1, KnockPort: at.Port()}
	if err := dialer.Knock(ctx, at, []byte("16 bytes or more")); err != nil {
		fmt.Println(err)
		return
	}
	e := <-events
	fmt.Println(e.Result, e.Client, e.Service, e.Method, e.Source, e.Session)
	stop()
	running.Wait()
	// Output: ok alice garage udp 127.0.0.1 16 bytes or more
}

// Invalid options are refused with an error that says what to change.
func ExampleNew() {
	knocks, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = knocks.Close() }() // Run, which would own it, is never called
	_, err = guard.New(guard.Options{
		Knocks:  []net.PacketConn{knocks},
		Secrets: new(auth.Secrets),
		Services: []guard.Service{
			{Name: "api", Port: 8443, Mode: guard.ModeKnock, Methods: []string{protocol.MethodTCPSYN}},
		},
	})
	fmt.Println(err)
	// Output: guard: invalid options: service "api": a tcp-syn knock is read from packets, which a listener never sees; use udp, udp-seq or udp-v2, or package gateway
}

// A listener without knocks, which shares the secrets, the store and the policy
// of the guarded ones.
func ExampleGuard_Guard() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	g, err := guard.New(guard.Options{
		Secrets:  auth.NewSecrets(alice),
		Services: []guard.Service{{Name: "ssh", Port: 22, Mode: guard.ModeAuth}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := g.Guard("ssh", inner, auth.ListenerOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = listener.Close() }()
	dialer := &client.Dialer{Identity: alice, Port: 22, NoKnock: true}
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
	fmt.Println(accepted.(*auth.Conn).Peer().ClientID(), g.Stats().Flows)
	_ = accepted.Close()
	fmt.Println(g.Stats().Flows)
	// Output:
	// alice 1
	// 0
}

// A replay store for an auth.Server beside a Guard: with it in Options.Replay,
// both share it.
func ExampleOpenFileReplay() {
	state, err := os.MkdirTemp("", "replay") // /var/lib/api/replay
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(state) }()
	replay, err := guard.OpenFileReplay(state, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = replay.Close() }()
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	server := auth.Server{Port: 22, Clients: auth.NewSecrets(alice).All(), Replay: replay}

	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- (&auth.Client{Identity: alice, Port: 22}).Handshake(context.Background(), near)
	}()
	peer, err := server.Handshake(context.Background(), far)
	fmt.Println(peer.ClientID(), err, errors.Join(<-done))
	// Output: alice <nil> <nil>
}
