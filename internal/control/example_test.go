package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/knockgw/knockgw/internal/control"
)

// exampleGateway is a gateway with one flow.
type exampleGateway struct{ control.Gateway }

func (exampleGateway) Flows(context.Context, time.Duration) control.Flows {
	return control.Flows{Flows: []control.Flow{{
		Client: "alice", Source: netip.MustParseAddrPort("192.0.2.7:40000"), Service: "ssh",
		Target: netip.MustParseAddrPort("10.77.0.1:22"), Received: 18432,
	}}}
}

// List the flows of the running gateway, as knockgw flows does.
func Example() {
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "control.sock") // control.socket of the configuration
	gateway := &control.Client{Socket: socket}
	_, err = gateway.Flows(context.Background(), 0)
	fmt.Println("before:", errors.Is(err, control.ErrNotRunning))

	server, err := control.Listen(socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Serve(ctx, exampleGateway{}) }()

	inside, err := gateway.Flows(ctx, 0)
	if err != nil {
		fmt.Println(err)
	} else {
		for _, f := range inside.Flows {
			fmt.Printf("%s from %v to %s, %d bytes received\n", f.Client, f.Source, f.Service, f.Received)
		}
	}
	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
	// Output:
	// before: true
	// alice from 192.0.2.7:40000 to ssh, 18432 bytes received
}
