package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client/profile"
)

// exchange says something at an address and wants it back.
func exchange(t *testing.T, network, addr, text string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(timeout))
	_, _ = io.WriteString(c, text)
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
}

// hello serves one HTTP request.
func hello(c net.Conn) {
	l := relayed{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- c
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprintf(w, "hello from %s", r.Host)
	}), ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(l.done)
		}
	}}
	_ = s.Serve(l)
}

// relayed is a listener of one connection.
type relayed struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l relayed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, io.EOF
	}
}

func (l relayed) Close() error   { return nil }
func (l relayed) Addr() net.Addr { return &net.TCPAddr{} }

func dirOf(t *testing.T) profile.Directory {
	t.Helper()
	dir, err := profile.DefaultDirectory()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
