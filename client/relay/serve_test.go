package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// echoServer starts a server that echoes each stream until its end.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// testServe is a running Serve.
type testServe struct {
	addr string
	stop context.CancelFunc
	done chan error
	ends chan Result
}

func serve(t *testing.T, o Options) testServe {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := testServe{addr: l.Addr().String(), stop: stop, done: make(chan error, 1), ends: make(chan Result, 256)}
	o.Listener, o.Report = l, func(e Result) { s.ends <- e }
	go func() {
		s.done <- Serve(ctx, o)
		close(s.done)
	}()
	t.Cleanup(func() {
		stop()
		s.wait(t, 0)
	})
	return s
}

// wait waits until Serve returns nil, which must take at least minWait.
func (s testServe) wait(t *testing.T, minWait time.Duration) {
	t.Helper()
	start := time.Now()
	select {
	case err := <-s.done:
		if err != nil || time.Since(start) < minWait {
			t.Errorf("Serve ended after %v: %v", time.Since(start), err)
		}
	case <-time.After(timeout):
		t.Fatal("Serve does not end")
	}
}

func (s testServe) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(timeout))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// dialer returns a function that dials address and counts its calls.
func dialer(address string, count *atomic.Int64) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		count.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}

func echo(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Error(err)
		return
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Errorf("got %q: %v", got, err)
	}
}

func TestServeDialsPerConnection(t *testing.T) {
	var dialled atomic.Int64
	s := serve(t, Options{Dial: dialer(echoServer(t), &dialled)})
	const many = 40
	var all sync.WaitGroup
	for i := range many {
		c := s.dial(t)
		all.Go(func() {
			text := fmt.Sprintf("client %d", i)
			echo(t, c, text)
			_ = c.CloseWrite()
			if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
				t.Errorf("%d: %q, %v", i, rest, err)
			}
			_ = c.Close()
		})
	}
	all.Wait()
	for range many {
		if e := <-s.ends; e.Err != nil || !e.Dialled || e.Stats.Up != e.Stats.Down || e.From == nil {
			t.Errorf("%+v", e)
		}
	}
	if n := dialled.Load(); n != many {
		t.Errorf("dialled %d times", n)
	}
}

func TestServeDialFails(t *testing.T) {
	shut := errors.New("unreachable")
	s := serve(t, Options{Dial: func(context.Context) (net.Conn, error) { return nil, shut }})
	c, err := net.Dial("tcp", s.addr)
	if err == nil { // else it was reset before connect returned
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("saw an empty response: %v", err)
	}
	if e := <-s.ends; !errors.Is(e.Err, shut) || e.Dialled {
		t.Errorf("%+v", e)
	}
}

func TestServeDrains(t *testing.T) {
	var dialled atomic.Int64
	s := serve(t, Options{Dial: dialer(echoServer(t), &dialled)})
	c := s.dial(t)
	echo(t, c, "before")
	s.stop()
	for { // until the listener is closed
		late, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		_ = late.Close()
	}
	echo(t, c, "after")
	select {
	case err := <-s.done:
		t.Fatalf("ended before its connection: %v", err)
	default:
	}
	_ = c.CloseWrite()
	s.wait(t, 0)
}

func TestServeDrainExpires(t *testing.T) {
	var dialled atomic.Int64
	const drain = 50 * time.Millisecond
	s := serve(t, Options{Dial: dialer(echoServer(t), &dialled), Drain: drain})
	c := s.dial(t)
	echo(t, c, "hello")
	s.stop()
	s.wait(t, drain/2)
	if e := <-s.ends; !errors.Is(e.Err, ErrDrained) {
		t.Errorf("%+v", e)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("saw an end of stream: %v", err)
	}
}

func TestServeDrainEndsDial(t *testing.T) {
	dialling := make(chan struct{})
	s := serve(t, Options{Drain: -1, Dial: func(ctx context.Context) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}})
	s.dial(t)
	<-dialling
	s.stop()
	s.wait(t, 0)
}

func TestServeMaxConns(t *testing.T) {
	var dialled atomic.Int64
	s := serve(t, Options{Dial: dialer(echoServer(t), &dialled), MaxConns: 1})
	first := s.dial(t)
	echo(t, first, "first")
	second := s.dial(t)
	if _, err := second.Write([]byte("second")); err != nil {
		t.Fatal(err)
	}
	_ = second.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := second.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes beyond the limit", n)
	}
	_ = first.Close()
	_ = second.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.ReadFull(second, make([]byte, 6)); err != nil {
		t.Error(err)
	}
}

// failingListener fails some times with a temporary error, and then permanently.
type failingListener struct {
	net.Listener
	temporaryErrors int
	closed          bool
}

type temporaryError struct{ error }

func (temporaryError) Temporary() bool { return true }

var errGone = errors.New("gone")

func (l *failingListener) Accept() (net.Conn, error) {
	if l.temporaryErrors--; l.temporaryErrors >= 0 {
		return nil, temporaryError{errors.New("no descriptors")}
	}
	return nil, errGone
}

func (l *failingListener) Close() error {
	l.closed = true
	return nil
}

func TestAcceptorRetriesTemporaryErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &failingListener{temporaryErrors: 12}
		start := time.Now()
		told := 0
		a := Acceptor{Listener: l, OnRetry: func(error) { told++ }}
		err := a.Serve(t.Context(), func(context.Context, net.Conn) {})
		if !errors.Is(err, errGone) || !l.closed || told != 12 {
			t.Errorf("%v; closed: %v; told %d times", err, l.closed, told)
		}
		if took := time.Since(start); took < 4*time.Second || took > 12*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestServeRequiredOptions(t *testing.T) {
	if err := Serve(t.Context(), Options{}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}
