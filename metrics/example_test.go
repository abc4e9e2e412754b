package metrics_test

import (
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/metrics"
)

// This example registers the collectors of a guard and its listeners.
func Example() {
	registry := prometheus.NewRegistry()
	gate, auths := metrics.NewGate(), metrics.NewAuth()
	registry.MustRegister(gate, auths)

	g, err := guard.New(guard.Options{
		Secrets:  new(auth.Secrets),
		Services: []guard.Service{{Name: "api", Port: 8443, Mode: guard.ModeAuth}},
		Knocked:  gate.Knocked,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	gate.Watch(g)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := g.Guard("api", inner, auth.ListenerOptions{Report: auths.Report("api")})
	if err != nil {
		fmt.Println(err)
		return
	}
	auths.Watch("api", listener)
	_ = listener.Close()

	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		fmt.Println(f.GetName())
	}
	// Output:
	// knockgw_banned_sources
	// knockgw_deferred_syns
	// knockgw_egress_dropped_packets_total
	// knockgw_flow_table_entries
	// knockgw_grants
	// knockgw_half_open_flows
	// knockgw_handshakes_in_flight
	// knockgw_knock_queue_length
	// knockgw_packets_total
	// knockgw_resource_limit
	// knockgw_resource_used
	// knockgw_sources
}
