package relay_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/knockgw/knockgw/client/relay"
)

// A local port for a service. The service of this example is not hidden; for a
// hidden one, Dial uses a client.Dialer or a profile, so that each connection has
// its own knock.
func ExampleServe() {
	service, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() { // a service that answers in upper case
		conn, _ := service.Accept()
		question, _ := io.ReadAll(conn)
		_, _ = io.WriteString(conn, strings.ToUpper(string(question)))
		_ = conn.Close()
	}()

	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- relay.Serve(ctx, relay.Options{
			Listener: listener,
			Dial: func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", service.Addr().String())
			},
			Report: func(end relay.Result) { fmt.Println("up", end.Stats.Up, "down", end.Stats.Down, end.Err) },
		})
	}()

	conn, _ := net.Dial("tcp", listener.Addr().String())
	_, _ = io.WriteString(conn, "hello")
	_ = conn.(*net.TCPConn).CloseWrite() // the request is complete
	answer, _ := io.ReadAll(conn)
	fmt.Println(string(answer))
	_ = conn.Close()

	stop()
	fmt.Println(<-done)
	_ = service.Close()
	// Unordered output:
	// up 5 down 5 <nil>
	// HELLO
	// <nil>
}

// Relay between two connections until both have ended.
func ExampleCopy() {
	application, near := net.Pipe()
	service, far := net.Pipe()
	go func() {
		_, _ = io.WriteString(application, "hello")
		_ = application.Close()
	}()
	done := make(chan relay.Stats)
	go func() {
		moved, _ := relay.Copy(context.Background(), near, far)
		done <- moved
	}()
	heard, _ := io.ReadAll(service)
	fmt.Println(string(heard), (<-done).Up)
	// Output: hello 5
}

// A local server that handles each connection itself, as a proxy does.
func ExampleAcceptor_Serve() {
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- relay.Acceptor{Listener: listener, MaxConns: 10}.Serve(ctx, func(_ context.Context, conn net.Conn) {
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		})
	}()
	conn, _ := net.Dial("tcp", listener.Addr().String())
	heard, _ := io.ReadAll(conn)
	_ = conn.Close()
	fmt.Println(string(heard))
	stop()
	fmt.Println(<-done)
	// Output:
	// hello
	// <nil>
}

// One Relay for many pairs of connections: it reuses its buffers.
func ExampleRelay_Copy() {
	var r relay.Relay
	for _, text := range []string{"first", "second"} {
		application, near := net.Pipe()
		service, far := net.Pipe()
		go func() {
			_, _ = io.WriteString(application, text)
			_ = application.Close()
		}()
		done := make(chan relay.Stats)
		go func() {
			moved, _ := r.Copy(context.Background(), near, far)
			done <- moved
		}()
		heard, _ := io.ReadAll(service)
		fmt.Println(string(heard), (<-done).Up)
	}
	// Output:
	// first 5
	// second 6
}
