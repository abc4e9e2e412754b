package gateway_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
)

// This example hides a service of the program itself: one whose configuration
// has no upstream.
func ExampleGateway_Listener() {
	cfg, err := config.Load("/etc/api/knockgw.yaml", config.WithoutUpstream())
	if err != nil {
		log.Fatal(err)
	}
	gw, err := gateway.New(cfg, gateway.Options{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := gw.Listener("api")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello, %s", r.RemoteAddr)
		}),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := gw.Run(ctx); err != nil {
		log.Print(err)
	}
	<-served // the listener's end is the gateway's
}
