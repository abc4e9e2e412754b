package replay

import (
	"errors"
	"os"
	"testing"
)

func TestFileStoreWritable(t *testing.T) {
	dir := t.TempDir() + "/state"
	s, err := OpenFileStore(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Writable(); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		t.Errorf("it leaves something behind: %v, %v", after, err)
	}
	if b := s.Usage(); len(b) != 3 {
		t.Errorf("%+v", b)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Writable(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Writable(); !errors.Is(err, ErrClosed) || s.Usage() != nil {
		t.Errorf("closed: %v", err)
	}
}
