package auth_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// A complete server for clients that authenticate, without knocks, and a client.
func ExampleListener() {
	alice, err := protocol.NewClient("alice", []byte("read this from a file"))
	if err != nil {
		log.Fatal(err)
	}
	secrets := auth.NewSecrets(alice)
	server := &auth.Server{Port: 8443, Clients: secrets.All(), Proof: true}
	if err := server.Check(); err != nil {
		log.Fatal(err)
	}
	limit, err := auth.NewRateLimiter(auth.Rate{PerSecond: 5})
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0") // ":8443" where clients are elsewhere
	if err != nil {
		log.Fatal(err)
	}
	listener := auth.NewListener(inner, server, auth.ListenerOptions{
		Limit:        limit,
		MaxPerSource: 64,
		Report: func(e auth.Event) {
			if e.Client != nil && e.Err != nil { // for the log: the client authenticated but was refused
				log.Printf("%s from %s: %v", e.Client.ID(), e.Conn.RemoteAddr(), e.Err)
			}
		},
	})
	web := &http.Server{
		ConnContext:       auth.ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := auth.PeerFromContext(r.Context())
			fmt.Fprintf(w, "hello, %s", peer.ClientID())
		}),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()

	dialer := auth.Dialer{Client: &auth.Client{Identity: alice, Port: 8443, Proof: true}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	response, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	said, err := io.ReadAll(response.Body)
	fmt.Println(string(said), err)
	_ = response.Body.Close()
	transport.CloseIdleConnections()
	_ = web.Close() // closes listener, too
	fmt.Println(errors.Is(<-served, http.ErrServerClosed))
	// Output:
	// hello, alice <nil>
	// true
}
