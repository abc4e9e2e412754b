package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout limits waits for events that should be immediate.
const timeout = 10 * time.Second

// tcpPair returns both ends of a TCP connection on loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{near, far} {
		_ = c.SetDeadline(time.Now().Add(timeout))
		t.Cleanup(func() { _ = c.Close() })
	}
	return near.(*net.TCPConn), far.(*net.TCPConn)
}

// unspliced is a connection that the kernel cannot splice.
type unspliced struct{ net.Conn }

func (p unspliced) CloseWrite() error       { return p.Conn.(*net.TCPConn).CloseWrite() }
func (p unspliced) SetLinger(sec int) error { return p.Conn.(*net.TCPConn).SetLinger(sec) }

type copyResult struct {
	moved Stats
	err   error
}

// start relays between the inner ends of two connections, and returns the outer
// ones.
func start(t *testing.T, ctx context.Context, wrap func(net.Conn) net.Conn) (app, service *net.TCPConn, end chan copyResult) {
	t.Helper()
	app, near := tcpPair(t)
	service, far := tcpPair(t)
	end = make(chan copyResult, 1)
	go func() {
		moved, err := Copy(ctx, wrap(near), wrap(far))
		end <- copyResult{moved, err}
	}()
	return app, service, end
}

// kinds are the kinds of connections: those that the kernel can splice, and
// others.
var kinds = []struct {
	name string
	wrap func(net.Conn) net.Conn
}{
	{"spliced", func(c net.Conn) net.Conn { return c }},
	{"copied", func(c net.Conn) net.Conn { return unspliced{c} }},
}

func TestCopyHalfClose(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			app, service, end := start(t, t.Context(), k.wrap)
			question := bytes.Repeat([]byte("question"), 1<<16)
			go func() {
				_, _ = app.Write(question)
				_ = app.CloseWrite()
			}()
			got, err := io.ReadAll(service)
			if err != nil || !bytes.Equal(got, question) {
				t.Fatalf("the service got %d bytes: %v", len(got), err)
			}
			if _, err := service.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
			_ = service.Close()
			got, err = io.ReadAll(app)
			if err != nil || string(got) != "answer" {
				t.Fatalf("the application got %q: %v", got, err)
			}
			if e := <-end; e.err != nil || e.moved.Up != int64(len(question)) || e.moved.Down != 6 {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestCopyServiceEndsFirst(t *testing.T) {
	app, service, end := start(t, t.Context(), kinds[0].wrap)
	if _, err := service.Write([]byte("no")); err != nil {
		t.Fatal(err)
	}
	_ = service.CloseWrite()
	if got, err := io.ReadAll(app); err != nil || string(got) != "no" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := app.Write([]byte("pity")); err != nil {
		t.Fatal(err)
	}
	_ = app.Close()
	if got, err := io.ReadAll(service); err != nil || string(got) != "pity" {
		t.Fatalf("%q, %v", got, err)
	}
	if e := <-end; e.err != nil {
		t.Error(e.err)
	}
}

func TestCopyReset(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			app, service, end := start(t, t.Context(), k.wrap)
			if _, err := service.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(app, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			Reset(service)
			if _, err := app.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the application took a reset for an end: %v", err)
			}
			if e := <-end; e.err == nil || e.moved.Down != 1 {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestCopyContextCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	app, _, end := start(t, ctx, kinds[0].wrap)
	why := errors.New("enough")
	cancel(why)
	if e := <-end; !errors.Is(e.err, why) {
		t.Errorf("%+v", e)
	}
	if _, err := app.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the application saw an end of stream: %v", err)
	}
}

func TestCopyWithoutCloseWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, near := net.Pipe()
		service, far := net.Pipe()
		end := make(chan copyResult, 1)
		go func() {
			moved, err := Copy(t.Context(), near, far)
			end <- copyResult{moved, err}
		}()
		go func() {
			_, _ = app.Write([]byte("hello"))
			_ = app.Close()
		}()
		if got, err := io.ReadAll(service); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		if e := <-end; e.moved.Up != 5 {
			t.Errorf("%+v", e)
		}
	})
}

func BenchmarkCopy(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			pair := func() (net.Conn, net.Conn) {
				near, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				far, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				return near, far
			}
			app, near := pair()
			service, far := pair()
			done := make(chan copyResult, 1)
			go func() {
				moved, err := Copy(b.Context(), k.wrap(near), k.wrap(far))
				done <- copyResult{moved, err}
			}()
			chunk := make([]byte, 256<<10)
			b.SetBytes(int64(len(chunk)))
			go func() {
				for range b.N {
					_, _ = app.Write(chunk)
				}
				_ = app.Close()
			}()
			_, _ = io.Copy(io.Discard, service)
			_ = service.Close()
			if e := <-done; e.err != nil {
				b.Fatal(e.err)
			}
		})
	}
}

func TestCopyApplicationStopsReading(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			app, service, end := start(t, t.Context(), k.wrap)
			if _, err := app.Write([]byte("terminate")); err != nil {
				t.Fatal(err)
			}
			if err := app.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(service); err != nil { // until the end of stream
				t.Fatal(err)
			}
			// As the close_notify of a TLS server, until the reset arrives.
			for {
				if _, err := service.Write([]byte("close_notify")); err != nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if got := <-end; got.err != nil {
				t.Errorf("the error is %v", got.err)
			}
		})
	}
}

func TestCopyServiceReset(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			app, service, end := start(t, t.Context(), k.wrap)
			if err := app.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(service); err != nil {
				t.Fatal(err)
			}
			Reset(service)
			if got := <-end; got.err == nil {
				t.Error("no error")
			}
		})
	}
}
