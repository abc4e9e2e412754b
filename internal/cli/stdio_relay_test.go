package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client/relay"
)

// tcpPair returns both ends of a TCP connection on loopback.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = b.SetDeadline(time.Now().Add(timeout))
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// runningRelay is a call of relayStdio in progress.
type runningRelay struct {
	in   *io.PipeWriter
	out  *io.PipeReader
	done chan error
}

func startJoin(ctx context.Context, conn net.Conn) runningRelay {
	inRead, in := io.Pipe()
	out, outWrite := io.Pipe()
	j := runningRelay{in: in, out: out, done: make(chan error, 1)}
	go func() { j.done <- relayStdio(ctx, conn, inRead, outWrite) }()
	return j
}

func (j runningRelay) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-j.done:
		return err
	case <-time.After(timeout):
		t.Fatal("join does not end")
		return nil
	}
}

func TestRelayStdioHalfClose(t *testing.T) {
	near, far := tcpPair(t)
	j := startJoin(t.Context(), near)
	go func() {
		_, _ = io.WriteString(j.in, "question")
		_ = j.in.Close()
	}()
	if got, err := io.ReadAll(far); err != nil || string(got) != "question" {
		t.Fatalf("%q, %v", got, err)
	}
	_, _ = io.WriteString(far, "answer")
	_ = far.Close()
	if got, err := io.ReadAll(j.out); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	if err := j.wait(t); err != nil {
		t.Error(err)
	}
}

func TestRelayStdioEndsWithService(t *testing.T) {
	near, far := tcpPair(t)
	j := startJoin(t.Context(), near)
	_, _ = io.WriteString(far, "bye")
	_ = far.Close()
	if got, err := io.ReadAll(j.out); err != nil || string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	if err := j.wait(t); err != nil {
		t.Error(err)
	}
}

func TestRelayStdioReset(t *testing.T) {
	near, far := tcpPair(t)
	j := startJoin(t.Context(), near)
	relay.Reset(far)
	if err := j.wait(t); err == nil || !strings.HasPrefix(err.Error(), "receive: ") || exitCode(err) != exitFailed {
		t.Error(err)
	}
}

func TestRelayStdioInputError(t *testing.T) {
	near, far := tcpPair(t)
	j := startJoin(t.Context(), near)
	torn := errors.New("torn off")
	_ = j.in.CloseWithError(torn)
	time.AfterFunc(10*time.Millisecond, func() { _ = far.CloseWrite() })
	if err := j.wait(t); !errors.Is(err, torn) {
		t.Error(err)
	}
}

func TestRelayStdioInterrupt(t *testing.T) {
	for name, before := range map[string]func(far net.Conn){
		"reading": func(net.Conn) {},
		"writing": func(far net.Conn) { _, _ = io.WriteString(far, "never read") },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := tcpPair(t)
			ctx, cancel := context.WithCancel(t.Context())
			j := startJoin(ctx, near)
			before(far)
			time.AfterFunc(10*time.Millisecond, cancel)
			if err := j.wait(t); !errors.Is(err, errInterrupted) {
				t.Error(err)
			}
		})
	}
}
