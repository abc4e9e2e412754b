package gateway_test

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/tuntest"
)

// A device in memory supports no filter.
func TestFilterUnsupportedByDevice(t *testing.T) {
	for value, want := range map[string]string{"auto": "packets are dropped in user space", "off": "", "require": "tun.filter"} {
		if value == "require" && runtime.GOOS != "linux" {
			continue // no configuration
		}
		cfg, err := config.Parse("filter.yaml", []byte("tun: {filter: "+value+`, routes: [10.77.0.0/24]}
clients: [{id: alice, secret: "alice, whose secret is long enough"}]
services: [{name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:22", mode: knock}]
`))
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		device, _ := tuntest.Pair(testMTU, true)
		gw, err := gateway.New(cfg, gateway.Options{Device: device, Log: slog.New(slog.NewTextHandler(&log, nil)), DrainTime: -1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- gw.Run(ctx) }()
		if value == "require" {
			if err := <-done; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("filter: %s: %v", value, err)
			}
			stop()
			continue
		}
		<-gw.Ready()
		stop()
		if err := <-done; err != nil {
			t.Errorf("filter: %s: %v", value, err)
		}
		if says := strings.Contains(log.String(), "user space"); says != (want != "") || !strings.Contains(log.String(), want) {
			t.Errorf("filter: %s, and the log says:\n%s", value, &log)
		}
	}
}
