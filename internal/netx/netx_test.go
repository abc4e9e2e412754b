package netx

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestCloseWriteEndsOneDirection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_ = near.SetDeadline(time.Now().Add(10 * time.Second))

	if err := CloseWrite(far); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	if _, err := near.Write([]byte("x")); err != nil {
		t.Errorf("write: %v", err)
	}
	if err := SetLinger(far, 0); err != nil {
		t.Error(err)
	}
}

func TestConnWithoutTheOperationIsUnsupported(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if err := CloseWrite(near); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := SetLinger(near, 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
