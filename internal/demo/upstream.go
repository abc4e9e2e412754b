package demo

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

const (
	// tokenSize is the size of a token in bytes, which makes it unguessable.
	tokenSize = 8
	// askTimeout is how long an answer may take; it takes a fraction of a
	// millisecond.
	askTimeout = 5 * time.Second

	// question is what the client sends, and greeting how the upstream's
	// answers begin.
	question = "who are you?\n"
	greeting = "I am the upstream; token "
)

// An upstream is the real service: for every line that it reads it makes a
// token, remembers it, and answers with it. A client that holds the token has
// proved where its answer came from.
type upstream struct {
	*netlab.Server

	mu     sync.Mutex
	tokens []token
}

// A token is one answer of the upstream.
type token struct {
	text string
	from netip.Addr // the source address that the upstream sees
}

func newUpstream() *upstream {
	u := &upstream{}
	u.Server = netlab.NewServer(u.answer)
	return u
}

// answer answers the lines of one connection.
func (u *upstream) answer(conn net.Conn) {
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

// last returns the token made most recently.
func (u *upstream) last() token {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.tokens) == 0 {
		return token{}
	}
	return u.tokens[len(u.tokens)-1]
}

// questions returns how many questions the upstream has read.
func (u *upstream) questions() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.tokens)
}

// A session is a client's connection to the upstream, through the gateway.
type session struct {
	conn net.Conn
	in   *bufio.Reader
}

// ask sends the question and returns the token of the answer.
func (s *session) ask(ctx context.Context) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
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
