package guard_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

// A whole server: knocks on UDP port 62201, the service on a visible port.
func ExampleGuard_Run() {
	secret, err := os.ReadFile("alice.key")
	if err != nil {
		log.Fatal(err)
	}
	alice, err := protocol.NewClient("alice", bytes.TrimSpace(secret))
	if err != nil {
		log.Fatal(err)
	}
	store, err := admission.OpenFileStore("/var/lib/api/replay", admission.StoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
	knocks, err := net.ListenPacket("udp", ":62201")
	if err != nil {
		log.Fatal(err)
	}
	g, err := guard.New(guard.Options{
		Knocks:  []net.PacketConn{knocks},
		Secrets: auth.NewSecrets(alice),
		Store:   store,
		Services: []guard.Service{
			{Name: "api", Port: 8443, Mode: admission.ModeKnockAuth, Auth: guard.Auth{Proof: true}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", ":8443")
	if err != nil {
		log.Fatal(err)
	}
	listener, err := g.Guard("api", inner, auth.ListenerOptions{MaxPerSource: 64})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
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
	go func() { served <- server.ServeTLS(listener, "cert.pem", "key.pem") }()
	if err := g.Run(ctx); err != nil {
		log.Print(err)
	}
	_ = server.Close() // closes listener, too
	<-served
	if err := store.Close(); err != nil {
		log.Print(err)
	}
}

// The client of a guarded, or hidden, web server.
func Example_client() {
	secret, err := os.ReadFile("alice.key")
	if err != nil {
		log.Fatal(err)
	}
	alice, err := protocol.NewClient("alice", bytes.TrimSpace(secret))
	if err != nil {
		log.Fatal(err)
	}
	dialer := &client.Dialer{Identity: alice, Auth: auth.Client{Proof: true}}
	web := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	response, err := web.Get("https://api.example.com:8443/")
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(os.Stdout, response.Body)
	_ = response.Body.Close()
}
