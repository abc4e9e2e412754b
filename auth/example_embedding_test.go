package auth_test

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// A whole server that lets in who authenticates, without knocks.
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
	inner, err := net.Listen("tcp", ":8443")
	if err != nil {
		log.Fatal(err)
	}
	listener := auth.NewListener(inner, server, auth.ListenerOptions{
		Limit:        limit,
		MaxPerSource: 64,
		Report: func(e auth.Event) {
			if e.Client != nil && e.Err != nil { // a client who is outside will want to know why
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
	log.Print(web.Serve(listener))
}
