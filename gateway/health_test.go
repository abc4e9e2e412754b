package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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

func TestADiskThatHangsHoldsUpNobodyButWhoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s storeTry
		disk, done := make(chan error), make(chan error)
		hanging := func() error { return <-disk }
		go func() { done <- s.tried(hanging) }()
		synctest.Wait()
		if err := s.tried(hanging); err != nil {
			t.Errorf("in the beginning: %v", err)
		}
		time.Sleep(storeEvery)
		if err := s.tried(hanging); !errors.Is(err, errStoreHangs) {
			t.Errorf("after a while: %v", err)
		}
		disk <- nil
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.tried(hanging); err != nil {
			t.Errorf("when it answers again: %v", err)
		}
	})
}
