package demo

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// tokenSize is the size of a token in bytes: nobody guesses it.
	tokenSize = 8
	// askTime is how long an answer may take; it takes a fraction of a millisecond.
	askTime = 5 * time.Second
)

// An upstream is the real service: for every line that it reads it makes a
// token, remembers it, and answers with it. That a client holds the token proves
// where its answer came from.
type upstream struct {
	listeners []net.Listener
	serving   sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	tokens []token
	closed bool
}

// A token is one answer of the upstream.
type token struct {
	text string
	from netip.Addr // who asked, as the upstream sees it
}

// serve answers the connections of a listener, which it closes in the end.
func (u *upstream) serve(l net.Listener) {
	u.listeners = append(u.listeners, l)
	u.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			if u.enter(conn) {
				u.serving.Go(func() { u.talk(conn) })
			}
		}
	})
}

func (u *upstream) enter(conn net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		_ = conn.Close()
		return false
	}
	if u.conns == nil {
		u.conns = make(map[net.Conn]struct{})
	}
	u.conns[conn] = struct{}{}
	return true
}

func (u *upstream) talk(conn net.Conn) {
	defer func() {
		u.mu.Lock()
		delete(u.conns, conn)
		u.mu.Unlock()
		_ = conn.Close()
	}()
	from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		secret := make([]byte, tokenSize)
		_, _ = rand.Read(secret) // never fails
		t := token{hex.EncodeToString(secret), from.Addr().Unmap()}
		u.mu.Lock()
		u.tokens = append(u.tokens, t)
		u.mu.Unlock()
		if _, err := fmt.Fprintf(conn, "%s%s\n", greeting, t.text); err != nil {
			return
		}
	}
}

// greeting begins the upstream's answers, and question is what they answer.
const (
	greeting = "I am the upstream; token "
	question = "who are you?\n"
)

// last is the token made most recently.
func (u *upstream) last() token {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.tokens) == 0 {
		return token{}
	}
	return u.tokens[len(u.tokens)-1]
}

// visits is how often the upstream was asked.
func (u *upstream) visits() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.tokens)
}

// close ends the upstream and its connections.
func (u *upstream) close() error {
	var err error
	u.mu.Lock()
	u.closed = true
	for _, l := range u.listeners {
		err = errors.Join(err, l.Close())
	}
	for c := range u.conns {
		err = errors.Join(err, c.Close())
	}
	u.mu.Unlock()
	u.serving.Wait()
	return err
}

// A session is a client's connection to the upstream, through the gateway.
type session struct {
	conn net.Conn
	in   *bufio.Reader
}

// ask asks the upstream who it is and returns the token of its answer.
func (s *session) ask(ctx context.Context) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(askTime)); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(0, 0)) })()
	if _, err := s.conn.Write([]byte(question)); err != nil {
		return "", fmt.Errorf("ask the upstream: %w", err)
	}
	line, err := s.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("read the upstream's answer: %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), greeting)
	if !ok {
		return "", fmt.Errorf("%q is not the upstream's answer", line)
	}
	return text, nil
}
