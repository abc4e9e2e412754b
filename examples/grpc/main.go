// Command grpc calls a hidden gRPC server: it requests the standard health
// check.
//
//	grpc -profile FILE -service grpc
//
// gRPC dials, and redials, with a dialer that knocks and authenticates. With
// -serve it is the server:
//
//	grpc -serve 10.1.3.2:50051
//
// The example has no TLS. A gateway authenticates connections and does not
// encrypt them: use TLS as you would without a gateway.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/knockgw/knockgw/examples/internal/target"
)

// timeout is the time limit of a call.
const timeout = 20 * time.Second

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	which := target.Define("grpc")
	address := flag.String("serve", "", "run the server at this `address`")
	flag.Parse()
	var err error
	if *address != "" {
		err = serve(ctx, *address)
	} else {
		err = call(ctx, which)
	}
	if err != nil {
		log.Fatal("grpc: ", err)
	}
}

// call requests the server's health and prints it.
func call(ctx context.Context, which target.Flags) (err error) {
	endpoint, err := which.Find()
	if err != nil {
		return err
	}
	// passthrough: the profile resolves the name, not DNS.
	conn, err := grpc.NewClient("passthrough:///"+endpoint.Service.Name,
		grpc.WithContextDialer(func(ctx context.Context, name string) (net.Conn, error) {
			return endpoint.Profile.DialContext(ctx, "tcp", name)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Without WaitForReady a failed dial is the error of the call, which names
	// the step that failed.
	reply, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Println("the server behind the gateway is", reply.GetStatus())
	return nil
}

// serve runs an ordinary gRPC server.
func serve(ctx context.Context, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	defer context.AfterFunc(ctx, server.Stop)()
	log.Println("listening on", l.Addr())
	return server.Serve(l)
}
