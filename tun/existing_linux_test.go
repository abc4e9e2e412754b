package tun

import (
	"os"
	"testing"
)

func TestOpenRejectsOtherDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := Open(Options{FD: int(w.Fd())}); err == nil {
		t.Fatal("a pipe was opened as an interface")
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Errorf("whose it was finds it closed: %v", err)
	}
}
