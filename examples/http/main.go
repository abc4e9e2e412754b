// Command http fetches a page of a hidden website with net/http.
//
//	http -profile FILE -service web [PATH]
//
// A profile is the dialer of an http.Transport: its services are the hosts of
// URLs. Each connection of the transport's pool has its own knock and
// authentication. With -serve it is the website:
//
//	http -serve 10.1.3.2:8080
//
// and with -guard as well, a website that takes the knocks itself, without a
// gateway:
//
//	http -serve 10.1.1.1:8081 -guard -profile FILE -service site
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/knockgw/knockgw/examples/internal/target"
)

// timeout is the time limit of a request, and of a server for reading a header.
const timeout = 20 * time.Second

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	which := target.Define("web")
	address := flag.String("serve", "", "run the website at this `address`")
	guard := flag.Bool("guard", false, "with -serve: take the knocks of the profile's client, without a gateway")
	flag.Parse()
	var err error
	switch {
	case *address != "" && *guard:
		err = guarded(ctx, *address, which)
	case *address != "":
		err = serve(ctx, *address)
	default:
		err = fetch(ctx, which, "/"+flag.Arg(0))
	}
	if err != nil {
		log.Fatal("http: ", err)
	}
}

// fetch prints a page.
func fetch(ctx context.Context, which target.Flags, path string) error {
	endpoint, err := which.Find()
	if err != nil {
		return err
	}

	client := &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{DialContext: endpoint.Profile.DialContext},
	}
	page := url.URL{Scheme: "http", Host: endpoint.Service.Name, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(resp.Status))
	}
	return errors.Join(err, resp.Body.Close())
}

// serve runs an ordinary website, which the gateway in front of it hides.
func serve(ctx context.Context, address string) error {
	site := &http.Server{
		Addr: address, ReadHeaderTimeout: timeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "hello from behind the gateway: %s %s\n", r.Method, r.URL.Path) //nolint:gosec // see the type
		}),
	}
	defer context.AfterFunc(ctx, func() { _ = site.Close() })()
	log.Println("listening on", address)
	if err := site.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
