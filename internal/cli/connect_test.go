package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestConnectRelaysStdio(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	text := strings.Repeat("a line of text\n", 50_000)
	for _, args := range [][]string{
		{"echo"}, {"lab/echo"}, {g.addr}, {"echo", "--proof"},
		{g.addr, "--client", "alice", "--secret-file", secretFile(t, aliceSecret), "--port", fmt.Sprint(g.port), "--udp-port", fmt.Sprint(g.knockPort)},
	} {
		before := g.knocks.Load()
		out, _, err := runCommandLine(t, strings.NewReader(text), append([]string{"connect"}, args...)...)
		if err != nil || out != text {
			t.Errorf("%v: %d bytes, %v", args, len(out), err)
		}
		for end := time.Now().Add(timeout); g.knocks.Load() == before && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // the gate reads it when it comes to it
		}
		if g.knocks.Load() == before {
			t.Errorf("%v: no knock", args)
		}
	}
}

func TestConnectEndsWithService(t *testing.T) {
	g := newGate(t, func(c net.Conn) { _, _ = io.WriteString(c, "no time") })
	profiles(t, g.profile("lab", "busy"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	out, _, err := runCommandLine(t, r, "connect", "busy")
	if err != nil || out != "no time" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestConnectReset(t *testing.T) {
	g := newGate(t, func(c net.Conn) {
		_ = c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).SetLinger(0)
	})
	profiles(t, g.profile("lab", "rude"))
	r, w := io.Pipe()
	defer w.Close()
	if _, _, err := runCommandLine(t, r, "connect", "rude", "--proof"); exitCode(err) != exitFailed {
		t.Errorf("%d: %v", exitCode(err), err)
	}
}
