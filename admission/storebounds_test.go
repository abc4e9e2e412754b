package admission

import (
	"slices"
	"testing"
)

func TestWhoAsksHowFullTheStoreIsDoesNotWaitForItsDisk(t *testing.T) {
	s, err := OpenFileStore(t.TempDir(), StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := s.Bounds()
	s.mu.Lock() // as a claim that is being written has it
	during := s.Bounds()
	s.mu.Unlock()
	if len(before) == 0 || !slices.Equal(before, during) {
		t.Errorf("%v, and during a write %v", before, during)
	}
}
