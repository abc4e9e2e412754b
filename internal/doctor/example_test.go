package doctor_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/doctor"
)

// A simulated host: checks without a function are not made. ThisHost returns the real
// one.
func ExampleExamine() {
	host := &doctor.Host{
		System:  "linux",
		Setting: func(string) (string, error) { return "0", nil },
		Links:   func() ([]doctor.Link, error) { return nil, nil },
	}
	cfg := &config.Config{TUN: config.TUN{Name: "knock0", Routes: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}}
	findings := doctor.Examine(context.Background(), host, doctor.Options{Config: cfg})
	for _, f := range findings {
		if f.Check == "forwarding IPv4" {
			fmt.Println(f.Level, f.Check+":", f.Message)
			fmt.Println(f.Fix)
		}
	}
	fmt.Println("something fails:", doctor.Failed(findings))
	// Output:
	// fail forwarding IPv4: off: packets for the protected addresses are dropped
	// sysctl -w net.ipv4.ip_forward=1 # or net.ipv4.conf.IFACE.forwarding=1, of the interface that clients come from
	// something fails: true
}
