package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

// hello serves one HTTP request.
func hello(c net.Conn) {
	l := singleListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
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

// singleListener is a listener with one connection.
type singleListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l singleListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, io.EOF
	}
}

func (l singleListener) Close() error   { return nil }
func (l singleListener) Addr() net.Addr { return &net.TCPAddr{} }
