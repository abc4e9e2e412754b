package observe

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/config"
)

func TestHealthResolvesDespiteCanceledCaller(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h := new(Health)
	cfg := &config.Config{Services: []config.Service{{Name: "web", Upstream: config.Upstream{Host: "localhost"}}}}
	for range 2 {
		if missing := h.resolveUpstreams(gone, cfg); len(missing) > 0 {
			t.Fatal(missing)
		}
	}
}

func TestStoreProbeBlocksOnlyItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s storeProbe
		disk, done := make(chan error), make(chan error)
		hanging := func() error { return <-disk }
		go func() { done <- s.run(hanging) }()
		synctest.Wait()
		if err := s.run(hanging); err != nil {
			t.Errorf("at the start: %v", err)
		}
		time.Sleep(storeProbeInterval)
		if err := s.run(hanging); !errors.Is(err, errStoreTimeout) {
			t.Errorf("after a while: %v", err)
		}
		disk <- nil
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.run(hanging); err != nil {
			t.Errorf("when it responds again: %v", err)
		}
	})
}
