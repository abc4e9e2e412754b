package guard_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

// A complete server: knocks on a UDP socket, the service on a visible port, and
// replay protection in a file. A program would run until a signal; see
// signal.NotifyContext.
func ExampleGuard_Run() {
	alice, err := protocol.NewClient("alice", []byte("read this from a file"))
	if err != nil {
		log.Fatal(err)
	}
	state, err := os.MkdirTemp("", "guard") // /var/lib/api
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(state) }()
	replay, err := guard.OpenFileReplay(filepath.Join(state, "replay"), nil)
	if err != nil {
		log.Fatal(err)
	}
	knocks, err := net.ListenPacket("udp", "127.0.0.1:0") // ":62201" where clients are elsewhere
	if err != nil {
		log.Fatal(err)
	}
	g, err := guard.New(guard.Options{
		Knocks:  []net.PacketConn{knocks},
		Secrets: auth.NewSecrets(alice),
		Replay:  replay,
		Services: []guard.Service{
			{Name: "api", Port: 8443, Mode: guard.ModeKnockAuth, Auth: guard.Auth{Proof: true}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0") // ":8443" where clients are elsewhere
	if err != nil {
		log.Fatal(err)
	}
	listener, err := g.Guard("api", inner, auth.ListenerOptions{MaxPerSource: 64})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	server := &http.Server{
		ConnContext:       auth.ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := auth.PeerFromContext(r.Context())
			fmt.Fprintf(w, "hello, %s", peer.ClientID())
		}),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // or ServeTLS
	visited := make(chan string, 1)
	go func() {
		visited <- visit(alice, listener.Addr(), knocks.LocalAddr())
		stop()
	}()
	if err := g.Run(ctx); err != nil {
		log.Print(err)
	}
	fmt.Println(<-visited)
	_ = server.Close() // closes listener, too
	fmt.Println(<-served)
	fmt.Println(replay.Close())
	// Output:
	// hello, alice
	// http: Server closed
	// <nil>
}

// visit requests the page of the example's web server as one of its clients.
func visit(who *protocol.Client, service, knocks net.Addr) string {
	dialer := &client.Dialer{
		Identity: who, Port: 8443, KnockPort: uint16(knocks.(*net.UDPAddr).Port), Auth: auth.Client{Proof: true},
	}
	web := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	response, err := web.Get("http://" + service.String())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(page)
}

// The client of a guarded, or hidden, web server.
func Example_client() {
	alice, err := protocol.NewClient("alice", []byte("read this from a file"))
	if err != nil {
		log.Fatal(err)
	}
	dialer := &client.Dialer{Identity: alice, Auth: auth.Client{Proof: true}}
	web := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}

	address, port, stop := page(alice)
	defer stop()
	dialer.Port, dialer.KnockPort = 8443, port // 62201 of a real server needs no saying, nor the port that is dialled
	response, err := web.Get("http://" + address)
	if err != nil {
		log.Fatal(err)
	}
	said, err := io.ReadAll(response.Body)
	fmt.Println(string(said), err)
	_ = response.Body.Close()
	web.CloseIdleConnections()
	// Output: a page for alice <nil>
}

// page starts a guarded web server that runs until stop is called.
func page(who *protocol.Client) (address string, knockPort uint16, stop func()) {
	knocks, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	g, err := guard.New(guard.Options{
		Knocks: []net.PacketConn{knocks}, Secrets: auth.NewSecrets(who),
		Services: []guard.Service{{Name: "page", Port: 8443, Mode: guard.ModeKnockAuth, Auth: guard.Auth{Proof: true}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener, err := g.Guard("page", inner, auth.ListenerOptions{})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{ConnContext: auth.ConnContext, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			peer, _ := auth.PeerFromContext(r.Context())
			fmt.Fprintf(w, "a page for %s", peer.ClientID())
		})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- g.Run(ctx) }()
	go func() { ended <- server.Serve(listener) }()
	return listener.Addr().String(), uint16(knocks.LocalAddr().(*net.UDPAddr).Port), func() {
		cancel()
		_ = server.Close()
		<-ended
		<-ended
	}
}
