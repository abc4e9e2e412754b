package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestForwardKnocksPerConnection(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	l := listen(t, "forward", "echo", "--listen", "127.0.0.1:0")
	const many = 20
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() { exchange(t, "tcp", l.addr, fmt.Sprintf("I am %d", i)) })
	}
	all.Wait()
	for end := time.Now().Add(timeout); g.knocks.Load() < many && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // the gate reads them when it comes to it
	}
	if n := g.knocks.Load(); n < many {
		t.Errorf("%d knocks", n)
	}
	l.end(t)
	if text := l.stderr.String(); text != "" {
		t.Errorf("complained: %s", text)
	}
}

func TestForwardUnixSocket(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	path := filepath.Join(t.TempDir(), "echo.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close() // a killed process
	l := listen(t, "forward", "echo", "--listen", "unix:"+path)
	if l.addr != "unix:"+path {
		t.Errorf("says %s", l.addr)
	}
	exchange(t, "unix", path, "hello")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, _, err := runCommandLine(t, nil, "forward", "echo", "--listen", "unix:"+path); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a socket in use was taken: %v", err)
	}
	l.end(t)
	if _, err := os.Stat(path); err == nil {
		t.Error("left its socket")
	}
}

func TestForwardDrains(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	l := listen(t, "forward", "echo")
	c, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	l.stop()
	for range timeout / drainNotice * 2 {
		if l.stderr.String() != "" {
			break
		}
		time.Sleep(drainNotice / 2)
	}
	if text := l.stderr.String(); !strings.Contains(text, "second signal") {
		t.Errorf("said %q", text)
	}
	_ = c.Close()
	l.end(t)
}

func TestForwardWarnsOfPublicAddress(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	for _, command := range [][]string{{"forward", "echo"}, {"proxy"}} {
		l := listen(t, append(command, "--listen", ":0")...)
		l.end(t)
		if text := l.stderr.String(); !strings.Contains(text, "WARNING") {
			t.Errorf("%v said %q", command, text)
		}
	}
}

func TestForwardReportsDialErrors(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	l := listen(t, "forward", "echo", "--proof", "--secret-file", secretFile(t, "another secret, of thirty-two b."))
	c, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("took it for an end: %v", err)
	}
	_ = c.Close()
	l.end(t)
	if text := l.stderr.String(); !strings.Contains(text, "authenticate: ") || strings.Count(text, "\n") != 1 {
		t.Errorf("said %q", text)
	}
}

// exchange sends text to an address and expects it back.
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
