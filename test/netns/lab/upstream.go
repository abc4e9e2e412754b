//go:build linux

package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

const (
	// DripInterval is the time between two lines of a drip, in which the client
	// says nothing.
	DripInterval = 500 * time.Millisecond
	// ReplyLine is the line that the reply to "whole N" repeats N times.
	ReplyLine = "the whole reply, and not a byte less\n"
)

// A LineServer is an upstream service that is asked in lines:
//
//	hello     answers Greeting and waits for more
//	bye       answers Greeting and closes first
//	echo X    answers X
//	whole N   reads until the client's FIN, answers ReplyLine N times, closes
//	drip N    answers N lines, one every DripInterval, and waits for more
//
// Its Addr is what a configuration calls upstream.
type LineServer struct {
	*netlab.Server

	Addr     string
	Greeting string
}

// ServeLines starts a LineServer on the host, until the test ends.
func (h *Host) ServeLines(address string) *LineServer {
	h.tb.Helper()
	s := &LineServer{Greeting: "hello from " + h.Name}
	s.Server, s.Addr = h.Serve(address, s.serve)
	return s
}

// Serve starts a server on the host, until the test ends, and returns it and its
// address.
func (h *Host) Serve(address string, handle func(net.Conn)) (*netlab.Server, string) {
	h.tb.Helper()
	l := h.Listen("tcp", address)
	s := netlab.NewServer(handle)
	s.Serve(l)
	h.tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			h.tb.Errorf("%s: close the server at %s: %v", h.Name, l.Addr(), err)
		}
	})
	return s, l.Addr().String()
}

// serve answers one connection until one side ends it; a client that goes away
// is no failure here.
func (s *LineServer) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}

		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, _ := strconv.Atoi(rest)
		switch word {
		case "hello":
			_, err = fmt.Fprintln(conn, s.Greeting)
		case "bye":
			_, _ = fmt.Fprintln(conn, s.Greeting)
			return
		case "echo":
			_, err = fmt.Fprintln(conn, rest)
		case "whole":
			if _, err := io.Copy(io.Discard, in); err != nil {
				return
			}
			_, _ = io.WriteString(conn, strings.Repeat(ReplyLine, n))
			return
		case "drip":
			for i := 0; i < n && err == nil; i++ {
				time.Sleep(DripInterval)
				_, err = fmt.Fprintln(conn, s.Greeting)
			}
		}
		if err != nil {
			return
		}
	}
}
