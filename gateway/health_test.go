package gateway

import (
	"context"
	"testing"

	"github.com/knockgw/knockgw/config"
)

func TestAnAskerThatGivesUpMakesNobodyElseNotReady(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h := new(health)
	cfg := &config.Config{Services: []config.Service{{Name: "web", Upstream: config.Upstream{Host: "localhost"}}}}
	for range 2 {
		if missing := h.unresolved(gone, cfg); len(missing) > 0 {
			t.Fatal(missing)
		}
	}
}
