package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client/profile"
)

func TestConnectIsAPipeToTheService(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	text := strings.Repeat("a line of text\n", 50_000)
	for _, args := range [][]string{
		{"echo"}, {"lab/echo"}, {g.addr}, {"echo", "--proof"},
		{g.addr, "--client", "alice", "--secret-file", secretFile(t, aliceSecret), "--port", fmt.Sprint(g.port), "--udp-port", fmt.Sprint(g.knockPort)},
	} {
		before := g.knocks.Load()
		out, _, err := perform(t, strings.NewReader(text), append([]string{"connect"}, args...)...)
		if err != nil || out != text {
			t.Errorf("%v: %d bytes, %v", args, len(out), err)
		}
		for end := time.Now().Add(patience); g.knocks.Load() == before && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // the gate reads it when it comes to it
		}
		if g.knocks.Load() == before {
			t.Errorf("%v: no knock", args)
		}
	}
}

func TestConnectEndsWithTheServiceThoughItsInputIsOpen(t *testing.T) {
	g := newGate(t, func(c net.Conn) { _, _ = io.WriteString(c, "no time") })
	profiles(t, g.profile("lab", "busy"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	out, _, err := perform(t, r, "connect", "busy")
	if err != nil || out != "no time" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAServiceThatResetsIsAnErrorOfConnect(t *testing.T) {
	g := newGate(t, func(c net.Conn) {
		_ = c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).SetLinger(0)
	})
	profiles(t, g.profile("lab", "rude"))
	r, w := io.Pipe()
	defer w.Close()
	if _, _, err := perform(t, r, "connect", "rude", "--proof"); exitCode(err) != exitFailed {
		t.Errorf("%d: %v", exitCode(err), err)
	}
}

func TestKnockPrintsItsSession(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	out, _, err := perform(t, nil, "knock", "echo")
	session, ok := strings.CutPrefix(strings.TrimSpace(out), "session ")
	if err != nil || !ok || len(session) != 32 {
		t.Fatalf("%q, %v", out, err)
	}
	again, _, err := perform(t, nil, "knock", "echo", "--session", session)
	if err != nil || again != out {
		t.Errorf("%q, %v", again, err)
	}
}

func TestForwardKnocksForEveryConnection(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	l := listen(t, "forward", "echo", "--listen", "127.0.0.1:0")
	const many = 20
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() { exchange(t, "tcp", l.addr, fmt.Sprintf("I am %d", i)) })
	}
	all.Wait()
	for end := time.Now().Add(patience); g.knocks.Load() < many && time.Now().Before(end); {
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

// exchange says something at an address and wants it back.
func exchange(t *testing.T, network, addr, text string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, text)
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
}

func TestForwardListensAtAUnixSocketOfItsOwner(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	path := filepath.Join(t.TempDir(), "echo.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close() // somebody was killed here
	l := listen(t, "forward", "echo", "--listen", "unix:"+path)
	if l.addr != "unix:"+path {
		t.Errorf("says %s", l.addr)
	}
	exchange(t, "unix", path, "hello")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, _, err := perform(t, nil, "forward", "echo", "--listen", "unix:"+path); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a socket in use was taken: %v", err)
	}
	l.end(t)
	if _, err := os.Stat(path); err == nil {
		t.Error("left its socket")
	}
}

func TestForwardWaitsForItsConnectionsAndSaysSo(t *testing.T) {
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
	for range patience / drainNotice * 2 {
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

func TestAnAddressThatOthersReachIsWarnedOf(t *testing.T) {
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

func TestForwardSaysWhyAServiceIsNotReached(t *testing.T) {
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

func TestMistakesOfFlagsAreMistakesOfUsage(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	for _, args := range [][]string{
		{"forward", "echo", "--listen", "nonsense"}, {"forward", "echo", "--drain", "-1s"}, {"proxy", "--max-connections", "0"},
		{"proxy", "--profile", "nobody"}, {"ping", "echo", "-c", "0"}, {"ping", "echo", "-o", "xml"}, {"ping", "echo", "--interval", "-1s"},
		{"knock", "echo", "--bind-port"}, {"connect", "echo", "--timeout", "-1s"},
	} {
		if _, _, err := perform(t, nil, args...); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	profiles(t)
	if _, _, err := perform(t, nil, "proxy"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "import") {
		t.Errorf("without a profile: %v", err)
	}
}

// hello serves one HTTP request.
func hello(c net.Conn) {
	l := relayed{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- c
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprintf(w, "hello from %s", r.Host)
	}), ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(l.done)
		}
	}}
	_ = s.Serve(l)
}

// relayed is a listener of one connection.
type relayed struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l relayed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, io.EOF
	}
}

func (l relayed) Close() error   { return nil }
func (l relayed) Addr() net.Addr { return &net.TCPAddr{} }

func TestProxyReachesTheServicesOfAllProfilesByName(t *testing.T) {
	one, two := newGate(t, hello), newGate(t, hello)
	p := one.profile("lab", "web")
	p.Services = append(p.Services, one.profile("lab", "Wiki").Services...)
	dir := profiles(t, p, two.profile("other.lab", "web"))
	l := listen(t, "proxy", "--listen", "127.0.0.1:0")
	get := func(host string) (int, string) {
		transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.addr})}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for host, gate := range map[string]*gate{
		"wiki": one, "wiki:8080": one, "wiki.lab": one, "web.lab": one, "web.other.lab": two, two.addr: two,
	} {
		before := gate.knocks.Load()
		if code, body := get(host); code != http.StatusOK || body != "hello from "+host || gate.knocks.Load() == before {
			t.Errorf("%s: %d %q", host, code, body)
		}
	}
	if code, body := get("web"); code != http.StatusBadGateway || !strings.Contains(body, "web.lab or web.other.lab") {
		t.Errorf("of two it was one: %d %q", code, body)
	}
	if code, body := get("www.example.org"); code != http.StatusForbidden || !strings.Contains(body, "web.lab, Wiki, web.other.lab") {
		t.Errorf("an open proxy: %d %q", code, body)
	}
	if _, err := dir.Save(one.profile("late", "news"), false); err != nil {
		t.Fatal(err)
	}
	if code, body := get("news"); code != http.StatusOK {
		t.Errorf("imported later: %d %q", code, body)
	}
}

func TestProxyCanBeOfOneProfile(t *testing.T) {
	g := newGate(t, hello)
	profiles(t, g.profile("lab", "web"), g.profile("other", "wiki"))
	s := proxyServices{dir: dirOf(t), only: []string{"lab"}}
	if _, err := s.find("web:80"); err != nil {
		t.Error(err)
	}
	if door, err := s.find("wiki:80"); err == nil {
		t.Errorf("found %v", door)
	}
}

func dirOf(t *testing.T) profile.Directory {
	t.Helper()
	dir, err := profile.DefaultDirectory()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestKeygenMakesASecretThatIsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, _, err := perform(t, nil, "keygen", "--out", path); err != nil {
		t.Fatal(err)
	}
	if _, err := targetOf(t, "10.77.0.1:22", "--client", "alice", "--secret-file", path); err != nil {
		t.Error(err)
	}
	if _, _, err := perform(t, nil, "keygen", "--out", path); err == nil {
		t.Error("overwrote a secret")
	}
	if out, _, err := perform(t, nil, "keygen"); err != nil || !strings.HasPrefix(out, "hex:") {
		t.Errorf("%v", err)
	}
}
