//go:build linux

package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DripInterval is the time between two lines of a drip, in which the client says nothing.
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
	Addr     string
	Greeting string

	accepted atomic.Int64
}

// ServeLines starts a LineServer on the host, until the test ends.
func (h *Host) ServeLines(address string) *LineServer {
	h.tb.Helper()
	l := h.Listen("tcp", address)
	s := &LineServer{Addr: l.Addr().String(), Greeting: "hello from " + h.Name}
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		open = make(map[net.Conn]bool)
	)
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed with the test
			}
			s.accepted.Add(1)
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			all.Go(func() {
				s.serve(conn)
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
				_ = conn.Close()
			})
		}
	})
	h.tb.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return s
}

// Accepted is how many connections have reached the server.
func (s *LineServer) Accepted() int { return int(s.accepted.Load()) }

// serve talks until one side has had enough; a client that goes away is no failure here.
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
