//go:build linux

package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// answerTime is how long an upstream may take to answer through the gateway, on
// a busy machine.
const answerTime = 10 * time.Second

// withTimeout is the test's context with a deadline.
func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func closeConn(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("close a connection: %v", err)
	}
}

// question asks a line server one line and returns its answer.
func question(conn net.Conn, line string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("after %q: %w", answer, err)
	}
	return answer[:len(answer)-1], nil
}

// ask is question for what must be answered.
func ask(t *testing.T, conn net.Conn, line string) string {
	t.Helper()
	answer, err := question(conn, line)
	if err != nil {
		t.Fatalf("ask %q: %v", line, err)
	}
	return answer
}

// timedOut reports whether an error is a timeout and no refusal.
func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout()
}
