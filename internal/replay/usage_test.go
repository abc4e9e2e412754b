package replay

import (
	"slices"
	"testing"
)

func TestFileStoreUsageDoesNotWaitForDisk(t *testing.T) {
	s, err := OpenFileStore(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := s.Usage()
	s.mu.Lock() // as a claim that is being written has it
	during := s.Usage()
	s.mu.Unlock()
	if len(before) == 0 || !slices.Equal(before, during) {
		t.Errorf("%v, and during a write %v", before, during)
	}
}
