package flows

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// loopback returns the two ends of a kernel connection.
func loopback(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func buffers() *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}
}

func TestSocketReads(t *testing.T) {
	near, far := loopback(t)
	read := reader(newSocket(near))
	l := &pooledBuf{pool: buffers()}
	type result struct {
		n   int
		err error
	}
	results := make(chan result)
	step := func() {
		n, err := read(l)
		results <- result{n, err}
	}
	for range 3 {
		go step()
		time.Sleep(10 * time.Millisecond) // wait until it blocks
		far.Write([]byte("hello"))
		if r := <-results; r.n != 5 || r.err != nil || string((*l.b)[:5]) != "hello" {
			t.Errorf("%+v", r)
		}
		l.put()
	}
	go step()
	far.CloseWrite()
	if r := <-results; r.n != 0 || r.err != io.EOF {
		t.Errorf("at the end: %+v", r)
	}
}

func TestSocketReadErrors(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(near, far *net.TCPConn)
		want error
	}{
		"end":      {func(_, far *net.TCPConn) { far.CloseWrite() }, io.EOF},
		"reset":    {func(_, far *net.TCPConn) { abortTCP(far) }, syscall.ECONNRESET},
		"closed":   {func(near, _ *net.TCPConn) { near.Close() }, net.ErrClosed},
		"aborted":  {func(near, _ *net.TCPConn) { newSocket(near).Abort() }, net.ErrClosed},
		"deadline": {func(near, _ *net.TCPConn) { near.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		for when, before := range map[string]bool{"before the read": true, "during the read": false} {
			t.Run(name+" "+when, func(t *testing.T) {
				near, far := loopback(t)
				read := reader(newSocket(near))
				l := &pooledBuf{pool: buffers()}
				if before {
					c.end(near, far)
				} else {
					time.AfterFunc(5*time.Millisecond, func() { c.end(near, far) })
				}
				if n, err := read(l); n != 0 || !errors.Is(err, c.want) {
					t.Errorf("%d, %v", n, err)
				}
				l.put()
			})
		}
	}
}

func TestSocketAbortUnblocksWrite(t *testing.T) {
	near, far := loopback(t)
	s := newSocket(near)
	blocked := make(chan error)
	go func() {
		var err error
		for err == nil {
			_, err = s.Write(make([]byte, bufferSize))
		}
		blocked <- err
	}()
	time.Sleep(20 * time.Millisecond)
	s.Abort()
	if err := <-blocked; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer read %v", err)
	}
	s.Abort() // may be called twice
}

func TestRelayBetweenSockets(t *testing.T) {
	th := newHarness(t).knocked()
	near, client := loopback(t)
	up, upstream := loopback(t)
	data := make([]byte, 5<<20)
	rand.Read(data)
	f := &Flow{Started: time.Now(), cancel: func(error) {}}
	done := make(chan CloseReason, 1)
	go func() { done <- th.set.relay(t.Context(), f, newSocket(near), newSocket(up), &Plan{Idle: time.Minute}) }()
	go func() {
		client.Write(data)
		client.CloseWrite()
	}()
	got, err := io.ReadAll(upstream)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	go func() {
		upstream.Write(data)
		upstream.Close()
	}()
	if got, err = io.ReadAll(client); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes back, %v", len(got), err)
	}
	if e := <-done; e != CloseEOF {
		t.Error(e)
	}
	if up, down := f.Bytes(); up != uint64(len(data)) || down != up {
		t.Errorf("%d up, %d down", up, down)
	}
}
