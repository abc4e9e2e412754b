package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// After a bad request net/http keeps the connection for half a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// fakeGateway returns fixed results.
type fakeGateway struct {
	result   *Result
	err      error
	calls    []string
	operator string // who asked for a reload
}

func (g *fakeGateway) Status() Status {
	return Status{PID: 7, Services: 3, PendingRestart: []string{"tun.mtu"}}
}

func (g *fakeGateway) Reload(operator string) (*Result, error) {
	g.calls, g.operator = append(g.calls, "reload"), operator
	return g.result, g.err
}

func (*fakeGateway) Flows(context.Context, time.Duration) Flows { return Flows{} }
func (*fakeGateway) Grants() Grants                             { return Grants{} }
func (*fakeGateway) Clients() Clients                           { return Clients{} }
func (*fakeGateway) Bans() Bans                                 { return Bans{} }

func (g *fakeGateway) Revoke(r Revocation, operator string) (Revoked, error) {
	g.calls = append(g.calls, "revoke "+r.Client+r.Source.String()+" by "+operator)
	return Revoked{Flows: 1, Grants: 2}, nil
}

func (g *fakeGateway) Unban(p netip.Prefix, _ string) int {
	g.calls = append(g.calls, "unban "+p.String())
	return 3
}

func (g *fakeGateway) Trace(ctx context.Context, o TraceOptions, each func(*TraceEvent) error) error {
	for _, e := range []TraceEvent{{}, {Step: StepPacket, Source: o.From.String(), Reason: o.Service}} {
		if err := each(&e); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (g *fakeGateway) Capture(ctx context.Context, o CaptureOptions, w io.Writer, flush func() error) error {
	_, err := fmt.Fprintf(w, "%s %d", o.Filter, o.Snaplen)
	if err := errors.Join(err, flush()); err != nil || o.Filter != "" {
		return err
	}
	<-ctx.Done()
	_, err = io.WriteString(w, " packets in all")
	return err
}

func (g *fakeGateway) Check() (*Result, error) {
	g.calls = append(g.calls, "check")
	return g.result, g.err
}

// tempSocket returns a path that is short enough for a socket, whatever the
// test's name.
func tempSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "knockgw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "control.sock")
}

// serve serves g at a socket until the test ends.
func serve(t *testing.T, g Gateway) *Client {
	t.Helper()
	socket := tempSocket(t)
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, g) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return &Client{Socket: socket}
}

// leaveBehind creates a stale socket, as a killed process does.
func leaveBehind(t *testing.T, socket string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

// http returns a client for requests that Client does not make.
func (c *Client) http() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
		},
	}}
}

// hostile is a gateway that was taken over by an attacker.
type hostile struct{ fakeGateway }

const escape = "\x1b[2J\u009b1m"

func (*hostile) Flows(context.Context, time.Duration) Flows {
	return Flows{Remaining: 1 << 40, Flows: []Flow{{
		Client: escape, Service: escape, Sent: 1<<64 - 1,
		Source: netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone("\x1b[1m"), 1),
	}}}
}

func (*hostile) Trace(_ context.Context, _ TraceOptions, each func(*TraceEvent) error) error {
	return each(&TraceEvent{Step: StepFlow, Message: escape, Detail: "a <b> & c"})
}
