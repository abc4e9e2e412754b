package auth

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/protocol"
)

// pipeListener is a net.Listener of net.Pipes, for bubbles.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestListenerAcceptsWhileOthersHang(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		var mu sync.Mutex
		results := map[Result]int{}
		l := NewListener(inner, &Server{Port: testPort, Clients: clients(alice), Proof: true}, ListenerOptions{
			Report: func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				results[e.Result]++
			},
		})
		start := time.Now()
		others := make([]net.Conn, 50)
		for i := range others {
			others[i], _ = inner.DialContext(t.Context(), "", "")
		}
		var wait sync.WaitGroup
		wait.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			defer conn.Close()
			if peer := conn.(*Conn).Peer(); peer.Client != alice {
				t.Errorf("%+v", peer)
			}
			if err := conn.(*Conn).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("half-closing a pipe: %v", err)
			}
			_, _ = conn.Write([]byte("welcome"))
		})
		d := Dialer{Client: &Client{Identity: alice, Port: testPort, Proof: true}, Dial: inner.DialContext}
		conn, err := d.DialContext(t.Context(), "tcp", "gateway:8443")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); string(text) != "welcome" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		wait.Wait()
		if elapsed := time.Since(start); elapsed != 0 {
			t.Errorf("waited %v", elapsed)
		}
		for _, other := range others {
			if n, err := other.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("an unauthorized client got %d bytes, %v", n, err)
			}
			if elapsed := time.Since(start); elapsed != DefaultDeadline {
				t.Errorf("an unauthorized client was closed after %v", elapsed)
			}
			other.Close()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if results[ResultOK] != 1 || results[ResultTimeout] != 50 {
			t.Errorf("%v", results)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
	})
}

func TestListenerCloseEndsHandshakes(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		l := NewListener(inner, &Server{Port: testPort, Clients: clients(alice)}, ListenerOptions{MaxHandshakes: 2})
		start := time.Now()
		other, _ := inner.DialContext(t.Context(), "", "")
		d := Dialer{Client: &Client{Identity: alice, Port: testPort}, Dial: inner.DialContext}
		friend, err := d.DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		// Both slots are taken: a third connection waits.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := inner.DialContext(ctx, "", ""); err == nil {
			t.Error("a third connection was taken up")
		}
		cancel()
		_ = l.Close()
		_ = l.Close()
		for _, conn := range []net.Conn{other, friend} {
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%v", err)
			}
			conn.Close()
		}
		if elapsed := time.Since(start); elapsed != time.Second {
			t.Errorf("closing took %v", elapsed-time.Second)
		}
	})
}

// passing is a temporary error of a net.Listener.
type passing struct{ error }

func (passing) Temporary() bool { return true }

// failing fails temporarily some times, then permanently.
type failing struct {
	*pipeListener
	left int
}

var errBroken = errors.New("broken")

func (f *failing) Accept() (net.Conn, error) {
	if f.left == 0 {
		return nil, errBroken
	}
	f.left--
	return nil, passing{errBroken}
}

func TestListenerRetriesTemporaryErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &failing{newPipeListener(), 12}
		l := NewListener(inner, &Server{Port: testPort}, ListenerOptions{})
		if _, err := l.Accept(); err != errBroken || inner.left != 0 {
			t.Errorf("%v with %d failures left", err, inner.left)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// On real sockets: whatever an unauthorized host sent, it receives a reset and
// no byte.
func TestListenerResetsFailuresAlike(t *testing.T) {
	defer goleak.VerifyNone(t)
	alice := identity(t, "alice")
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	l := NewListener(inner, &Server{Port: testPort, Clients: clients(alice), Deadline: 50 * time.Millisecond}, ListenerOptions{})
	var wait sync.WaitGroup
	for _, stream := range [][]byte{nil, make([]byte, 1), make([]byte, 31), make([]byte, 32), make([]byte, 1<<20)} {
		for _, fin := range []bool{false, true} {
			wait.Go(func() {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_, _ = conn.Write(stream)
				if fin {
					_ = conn.(*net.TCPConn).CloseWrite()
				}
				if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%d bytes, fin %v: %d, %v", len(stream), fin, n, err)
				}
			})
		}
	}
	wait.Wait()

	d := Dialer{Client: &Client{Identity: alice, Port: testPort, Protocol: V1}}
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(accepted); string(text) != "request" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	_, _ = accepted.Write([]byte("reply"))
	if err := accepted.(*Conn).CloseWrite(); err != nil {
		t.Error(err)
	}
	if text, err := io.ReadAll(conn); string(text) != "reply" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	_ = accepted.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestDialerClosesConnOnFailure(t *testing.T) {
	alice := identity(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = io.Copy(io.Discard, far) })
		d := Dialer{
			Client: &Client{Identity: alice, Port: testPort, Proof: true},
			Dial:   func(context.Context, string, string) (net.Conn, error) { return near, nil },
		}
		start := time.Now()
		if _, err := d.DialContext(t.Context(), "", ""); ResultOf(err) != ResultTimeout || time.Since(start) != clientDeadline {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		wait.Wait() // far has seen the end
		d.Client = &Client{Identity: alice, Port: testPort, Extensions: make([]byte, 600)}
		near, far = net.Pipe()
		if _, err := d.DialContext(t.Context(), "", ""); !errors.Is(err, protocol.ErrNoBucket) {
			t.Errorf("%v", err)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v", err)
		}
	})
}
