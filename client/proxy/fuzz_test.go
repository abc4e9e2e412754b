package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeConn returns given bytes and then io.EOF, and records writes.
type fakeConn struct {
	in     *bytes.Reader
	mu     sync.Mutex
	out    bytes.Buffer
	closed bool
}

func (s *fakeConn) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return s.in.Read(b)
}

func (s *fakeConn) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *fakeConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *fakeConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *fakeConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *fakeConn) SetDeadline(time.Time) error      { return nil }
func (s *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (s *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzSOCKS passes arbitrary input to the SOCKS5 handshake, which must not read
// beyond the request and must return a normalized address.
func FuzzSOCKS(f *testing.F) {
	for _, text := range []string{
		"\x01\x00\x05\x01\x00\x03\x04echo\x00\x07early", "\x02\x02\x00\x05\x01\x00\x01\x0a\x4d\x00\x01\x00\x16",
		"\x01\x00\x05\x01\x00\x04" + strings.Repeat("\xfd", 16) + "\x00\x16", "\x00", "\x01\x02", "\x01\x00\x05\x03\x00\x02",
		"\x01\x00\x05\x010\x03\x05000..00", "\x01\x00\x05\x01\x00\x03\x051...2\x00\x50", "\x01\x00\x05\x01\x00\x03\x081.2.3.4.\x00\x50",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := &fakeConn{in: bytes.NewReader(text)}
		to, err := socksHandshake(s)
		var refused *socksError
		switch {
		case err == nil:
			checkNormalized(t, to)
		case errors.As(err, &refused), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		default:
			t.Fatalf("%v", err)
		}
		// Version, count, methods; version, command, 0, type, length, name,
		// port.
		if read := len(text) - s.in.Len(); read > 1+255+4+1+255+2 {
			t.Fatalf("read %d bytes", read)
		}
	})
}

// checkNormalized checks that normalizing an address does not change it.
func checkNormalized(t *testing.T, to string) {
	if again, err := parseAuthority(to, 0); err != nil || again != to {
		t.Fatalf("%q is read as %q: %v", to, again, err)
	}
}

// FuzzHTTP passes arbitrary input to the whole proxy, which must only refuse,
// and must dial normalized addresses.
func FuzzHTTP(f *testing.F) {
	for _, text := range []string{
		"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\nearly", "GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n", "POST http://[::1%25lo]:1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x05\x01\x00\x05\x01\x00\x03\x04echo\x00\x07", "\x04", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l := newConnListener(&net.TCPAddr{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var mu sync.Mutex
		var wanted []string
		go func() {
			done <- Serve(ctx, Options{Listener: l, Dial: func(_ context.Context, to string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				wanted = append(wanted, to)
				return nil, &UnknownServiceError{Address: to}
			}})
		}()
		s := &fakeConn{in: bytes.NewReader(text)}
		l.conns <- s
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, to := range wanted {
			checkNormalized(t, to)
		}
		if bytes.HasPrefix(s.out.Bytes(), []byte("HTTP/1.1 2")) || !s.closed {
			t.Fatalf("closed: %v, answered %q", s.closed, s.out.Bytes())
		}
	})
}
