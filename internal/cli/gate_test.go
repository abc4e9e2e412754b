package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
)

// leakChecker runs the tests, and fails if they leak goroutines.
type leakChecker struct{ *testing.M }

func (m leakChecker) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == exitOK {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return code
}

const (
	// timeout limits the waiting of a test.
	timeout = 10 * time.Second
	// authDeadline is the authentication deadline of a gate.
	authDeadline = 50 * time.Millisecond

	aliceSecret = "alice's secret, of thirty-two b."
)

// gate is a gateway without hiding: it counts knocks, authenticates
// connections, and serves them itself.
type gate struct {
	addr      string
	knockPort uint16
	port      uint16 // in MACs
	knocks    atomic.Int64
}

// newGate starts a gate for the client alice.
func newGate(t *testing.T, serve func(net.Conn)) *gate {
	t.Helper()
	g := &gate{port: 22}
	alice, err := protocol.NewClient("alice", []byte(aliceSecret))
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	g.knockPort = udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = inner.Addr().String()
	l := auth.NewListener(inner, &auth.Server{
		Port: g.port, Clients: slices.Values([]*protocol.Client{alice}), Proof: true, Deadline: authDeadline,
	}, auth.ListenerOptions{})
	var all sync.WaitGroup
	all.Go(func() {
		b := make([]byte, 2048)
		for {
			if _, err := udp.Read(b); err != nil {
				return
			}
			g.knocks.Add(1)
		}
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = udp.Close()
		_ = l.Close()
		all.Wait()
	})
	return g
}

// echo returns what it receives.
func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
}

// profiles creates the user's directory of profiles.
func profiles(t *testing.T, all ...*profile.Profile) profile.Directory {
	t.Helper()
	dir := profile.Directory(t.TempDir())
	for _, p := range all {
		if _, err := dir.Save(p, false); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(profile.DirectoryVariable, string(dir))
	return dir
}

// profile returns a profile of the gate with one service.
func (g *gate) profile(name, service string) *profile.Profile {
	return &profile.Profile{
		Name: name, Client: "alice", Secret: protocol.Secret(aliceSecret),
		Services: []profile.Service{{
			Name: service, Address: g.addr, Mode: profile.ModeKnockAuth, Method: protocol.MethodUDP,
			KnockPort: g.knockPort, Port: g.port, Auth: profile.Auth{Proof: true},
		}},
	}
}

// secretFile writes a secret to a file.
func secretFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// syncBuffer is a buffer for concurrent use.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *syncBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *syncBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// runCommandLine runs a command line.
func runCommandLine(t *testing.T, in io.Reader, args ...string) (out, errs string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var stdout, stderr syncBuffer
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err = cmd.ExecuteContext(ctx)
	return stdout.String(), stderr.String(), err
}

// listeningCommand is a running command that listens at an address.
type listeningCommand struct {
	addr   string
	output string // when it was ready
	stop   context.CancelFunc
	done   chan error
	stderr *syncBuffer
}

// listen starts a command that prints the address it listens at.
func listen(t *testing.T, args ...string) listeningCommand {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := listeningCommand{stop: stop, done: make(chan error, 1), stderr: &syncBuffer{}}
	r, w := io.Pipe()
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(w)
	cmd.SetErr(l.stderr)
	go func() {
		err := cmd.ExecuteContext(ctx)
		_ = w.CloseWithError(io.EOF)
		l.done <- err
		close(l.done)
	}()
	t.Cleanup(func() { l.end(t) })
	b := make([]byte, 1024)
	n, err := r.Read(b)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, <-l.done, l.stderr)
	}
	l.output = string(b[:n])
	if said := (listenResult{}); json.Unmarshal(b[:n], &said) == nil {
		l.addr = said.Listening
		return l
	}
	words := strings.Fields(l.output)
	if len(words) < 3 || words[0] != "listening" {
		t.Fatalf("%v printed %q", args, b[:n])
	}
	l.addr = words[2]
	return l
}

// end stops the command.
func (l listeningCommand) end(t *testing.T) {
	t.Helper()
	l.stop()
	select {
	case err := <-l.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Fatal("the command does not end")
	}
}
