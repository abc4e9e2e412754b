package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/knockgw/knockgw/client/proxy"
)

// A proxy that makes one service available by name. The service of this example is
// not hidden; for hidden ones, Dial looks up the service in a profile and uses the
// profile's dialer.
func ExampleServe() {
	wiki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "this is", r.Host)
	}))
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() {
		done <- proxy.Serve(ctx, proxy.Options{
			Listener: listener,
			Dial: func(ctx context.Context, address string) (net.Conn, error) {
				if address != "wiki:80" {
					return nil, &proxy.UnknownServiceError{Address: address, Services: []string{"wiki"}}
				}
				return (&net.Dialer{}).DialContext(ctx, "tcp", wiki.Listener.Addr().String())
			},
		})
	}()

	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: listener.Addr().String()})}
	browser := http.Client{Transport: transport}
	for _, page := range []string{"http://wiki/", "http://www.example.org/"} {
		response, err := browser.Get(page)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		fmt.Printf("%s: %s", response.Status, body)
	}
	transport.CloseIdleConnections()
	stop()
	fmt.Println(<-done)
	wiki.Close()
	// Output:
	// 200 OK: this is wiki
	// 403 Forbidden: knockgw: www.example.org:80 is not one of the services: wiki
	// <nil>
}
