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
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/config"
)

func TestMain(m *testing.M) {
	// After a bad request net/http waits for half a second before it is done
	// with the connection.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// fakeGateway answers as it is told.
type fakeGateway struct {
	result *Result
	err    error
	calls  []string
	operator     string // who asked for a reload
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

// tempSocket is a path that is short enough for a socket, whatever the test's
// name.
func tempSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "knockgw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "control.sock")
}

// serve has g answer at a socket until the test ends.
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

func TestClientRequests(t *testing.T) {
	want := &Result{
		Config: "f.yaml", Applied: true, Warnings: []string{"w"}, Flows: 2,
		Changes: config.Changes{
			Services: config.Difference{Added: []string{}, Removed: []string{}, Changed: []config.Changed{}},
			Clients:  config.Difference{Added: []string{"bob"}, Removed: []string{}, Changed: []config.Changed{{Name: "alice", Keys: []string{"secret"}}}},
			Keys:     []string{}, PendingRestart: []string{},
		},
	}
	g := &fakeGateway{result: want}
	c := serve(t, g)
	for name, ask := range map[string]func(context.Context) (*Result, error){"reload": c.Reload, "check": c.Check} {
		g.calls = nil
		got, err := ask(t.Context())
		if err != nil || !reflect.DeepEqual(got, want) || len(g.calls) != 1 || g.calls[0] != name {
			t.Errorf("%s: %+v, %v; the gateway was asked %q", name, got, err, g.calls)
		}
		if want := fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid()); runtime.GOOS == "linux" && name == "reload" && !strings.Contains(g.operator, want) {
			t.Errorf("the gateway was told that %q asked, and it was %s", g.operator, want)
		}
	}
	s, err := c.Status(t.Context())
	if err != nil || s.PID != 7 || s.Services != 3 || len(s.PendingRestart) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestClientRevokeAndUnban(t *testing.T) {
	g := &fakeGateway{}
	c := serve(t, g)
	if r, err := c.Revoke(t.Context(), Revocation{Client: "alice", Source: netip.MustParsePrefix("10.0.0.0/8")}); err != nil || r.Grants != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Unban(t.Context(), netip.MustParsePrefix("fd00::/8")); err != nil || r.Bans != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if len(g.calls) != 2 || !strings.HasPrefix(g.calls[0], "revoke alice10.0.0.0/8 by ") || g.calls[1] != "unban fd00::/8" {
		t.Errorf("%q", g.calls)
	}
	for _, r := range []Revocation{
		{}, {All: true, Client: "alice"}, {Grants: true, Flow: netip.MustParseAddrPort("10.1.1.1:1")},
	} {
		if _, err := c.Revoke(t.Context(), r); err == nil {
			t.Errorf("%+v was not refused", r)
		}
	}
}

func TestTraceEndsWithItsReader(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var got []TraceEvent
	enough := errors.New("enough")
	err := c.Trace(t.Context(), TraceOptions{From: netip.MustParsePrefix("10.1.0.0/16"), Service: "ssh"}, func(e *TraceEvent) error {
		got = append(got, *e)
		return enough
	})
	if !errors.Is(err, enough) || len(got) != 1 || got[0].Source != "10.1.0.0/16" || got[0].Reason != "ssh" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCaptureCopiesStream(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var b strings.Builder
	begun := false
	err := c.Capture(t.Context(), CaptureOptions{Filter: "host 10.1.1.1 and verdict drop", Snaplen: 99}, &b, func() { begun = true })
	if err != nil || !begun || b.String() != "host 10.1.1.1 and verdict drop 99" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestCaptureInterruptedIsComplete(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var b strings.Builder
	ctx, interrupt := context.WithCancel(t.Context())
	err := c.Capture(ctx, CaptureOptions{Snaplen: 99}, &b, interrupt)
	if err != nil || b.String() != " 99 packets in all" {
		t.Errorf("%q, %v", b.String(), err)
	}
	b.Reset()
	if err := c.Capture(ctx, CaptureOptions{Snaplen: 99}, &b, func() {}); !errors.Is(err, context.Canceled) || b.Len() > 0 {
		t.Errorf("interrupted before: %q, %v", b.String(), err)
	}
}

func TestRefusedErrorHasAllProblems(t *testing.T) {
	g := &fakeGateway{err: errors.Join(errors.New("f.yaml:3: one"), errors.New("f.yaml:9: two"))}
	_, err := serve(t, g).Reload(t.Context())
	var refused *RefusedError
	if !errors.As(err, &refused) || err.Error() != "f.yaml:3: one\nf.yaml:9: two" {
		t.Errorf("%v", err)
	}
}

func TestErrUnavailableWhileStarting(t *testing.T) {
	_, err := serve(t, &fakeGateway{err: ErrUnavailable}).Reload(t.Context())
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestErrNotRunning(t *testing.T) {
	socket := tempSocket(t)
	c := &Client{Socket: socket}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	leaveBehind(t, socket)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a dead process's socket: %v", err)
	}
	if _, err := (&Client{}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "control.socket") {
		t.Errorf("no path: %v", err)
	}
}

// leaveBehind makes a socket as a process does that is killed.
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

func TestListenReplacesStaleSocket(t *testing.T) {
	socket := tempSocket(t)
	leaveBehind(t, socket)
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestListenConcurrentlyOnStaleSocket(t *testing.T) {
	for range 50 {
		socket := tempSocket(t)
		leaveBehind(t, socket)
		var wg sync.WaitGroup
		servers, errs := make([]*Server, 4), make([]error, 4)
		for i := range servers {
			wg.Go(func() { servers[i], errs[i] = Listen(socket) })
		}
		wg.Wait()
		had := 0
		for i, s := range servers {
			if s != nil {
				had++
				_ = s.Close()
			} else if !errors.Is(errs[i], ErrInUse) {
				t.Error(errs[i])
			}
		}
		if had != 1 {
			t.Fatalf("%d have it", had)
		}
	}
}

func TestListenErrInUse(t *testing.T) {
	c := serve(t, &fakeGateway{})
	if _, err := Listen(c.Socket); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}

func TestListenKeepsOtherFiles(t *testing.T) {
	socket := tempSocket(t)
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); err == nil {
		t.Error("it listens")
	}
	if b, _ := os.ReadFile(socket); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestListenSocketMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	c := serve(t, &fakeGateway{})
	for path, want := range map[string]fs.FileMode{c.Socket: 0o660, filepath.Dir(c.Socket): 0o750} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s has mode %04o, not %04o", path, got, want)
		}
	}
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

func TestServerRejectsUnknownRequests(t *testing.T) {
	g := &fakeGateway{}
	c := serve(t, g)
	for _, r := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v1/reload", http.StatusMethodNotAllowed},
		{http.MethodPost, "/v1/halt", http.StatusNotFound},
		{http.MethodPost, "/", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://knockgw"+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != r.want {
			t.Errorf("%s %s: %s", r.method, r.path, resp.Status)
		}
	}
	if len(g.calls) > 0 {
		t.Errorf("the gateway was asked %q", g.calls)
	}
}

func TestServerRejectsInvalidRevocations(t *testing.T) {
	g := &fakeGateway{}
	c := serve(t, g)
	for body, want := range map[string]int{
		`{"all":true}` + "\n":      http.StatusOK,
		`{"all":true} garbage`:     http.StatusUnprocessableEntity,
		`{"all":true}{"all":true}`: http.StatusUnprocessableEntity,
		`{"all":true}]`:            http.StatusUnprocessableEntity,
		`{"all":true,"more":1}`:    http.StatusUnprocessableEntity,
		``:                         http.StatusUnprocessableEntity,
	} {
		g.calls = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://knockgw/v1/revoke", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || (len(g.calls) > 0) != (want == http.StatusOK) {
			t.Errorf("%s: %s, the gateway was asked %q", body, resp.Status, g.calls)
		}
	}
}

func TestServerLimitsConnections(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var open []net.Conn
	for range MaxConnections {
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "connections already") {
		t.Errorf("one more than the most: %v", err)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Status(t.Context()); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatalf("no response after they are closed: %v", err)
		}
	}
}

func TestServerRejectsLongHeaders(t *testing.T) {
	c := serve(t, &fakeGateway{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://knockgw/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 2*maxHeader))
	resp, err := c.http().Do(req)
	if err != nil {
		return // closed while we wrote
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%s", resp.Status)
	}
}

// hostile says what a gateway would that has been taken over.
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

func TestClientEscapesText(t *testing.T) {
	g := &hostile{fakeGateway{err: errors.New("f.yaml:3: " + escape)}}
	c := serve(t, g)
	flows, err := c.Flows(t.Context(), 0)
	if err != nil || flows.Remaining != 1<<40 || flows.Flows[0].Sent != 1<<64-1 {
		t.Fatalf("%+v, %v", flows, err)
	}
	var traced TraceEvent
	if err := c.Trace(t.Context(), TraceOptions{From: netip.MustParsePrefix("10.0.0.0/8")}, func(e *TraceEvent) error {
		traced = *e
		return nil
	}); err != nil || traced.Detail != "a <b> & c" {
		t.Fatalf("%+v, %v", traced, err)
	}
	_, refused := c.Reload(t.Context())
	for _, text := range []string{flows.Flows[0].Client, flows.Flows[0].Service, flows.Flows[0].Source.String(), traced.Message, refused.Error()} {
		if strings.ContainsAny(text, "\x1b\u009b") || !strings.Contains(text, `\x1b[`) {
			t.Errorf("%q", text)
		}
	}
}
