//go:build unix

package stdio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

func TestCloseInterruptsReadAndWrite(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	in, out := Reader(r), Writer(w)
	text := bytes.Repeat([]byte("x"), 3*pipeSpace)
	if n, err := out.Write(text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	if _, err := io.ReadFull(in, text); err != nil {
		t.Fatal(err)
	}
	over := make(chan error)
	go func() {
		_, err := in.Read(text)
		over <- err
	}()
	time.AfterFunc(10*time.Millisecond, func() { _ = in.Close() })
	if err := <-over; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	go func() {
		for { // until the pipe is full, then until Close
			if _, err := out.Write(text); err != nil {
				over <- err
				return
			}
		}
	}()
	time.AfterFunc(10*time.Millisecond, func() { _ = out.Close() })
	if err := <-over; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := w.Stat(); err != nil {
		t.Errorf("the file itself was closed: %v", err)
	}
	_ = in.Close() // a second Close is harmless
}
