//go:build linux

package netns_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// readinessAge is for how long readiness remembers what it found.
	readinessAge = 10 * time.Second
	// tried is that and some more.
	tried = 2 * readinessAge
)

// readiness asks the gateway whether it is ready, and why not.
func readiness(t *testing.T, l *lab.Lab) (status int, why string) {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Gateway.Dial(ctx, network, address)
		},
	}
	req, err := http.NewRequestWithContext(withTimeout(t, answerTime), http.MethodGet, "http://127.0.0.1:9091/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// unready waits until the gateway says what of it is not ready, and fails the
// test unless its metrics say the same.
func unready(t *testing.T, l *lab.Lab, g *lab.Gateway, check, words string) {
	t.Helper()
	for end := time.Now().Add(tried); ; time.Sleep(sampleEvery) {
		status, why := readiness(t, l)
		if status == http.StatusServiceUnavailable && strings.Contains(why, words) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s: /readyz says %d, %s", check, status, why)
		}
	}
	for _, one := range []string{"running", "device", "store", "upstreams"} {
		want := 1.0
		if one == check {
			want = 0
		}
		if got, ok := g.Metrics()[`knockgw_ready{check="`+one+`"}`]; !ok || got != want {
			t.Errorf("with what is wrong with the %s, the metrics say of the %s %v (%v)", check, one, got, ok)
		}
	}
}

func TestReadinessReportsCauses(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 0).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	if err := unix.Mount("tmpfs", site.State, "tmpfs", 0, "size=65536,mode=0700,uid=65534,gid=65534"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(site.State, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	g := site.Start(t)
	if status, why := readiness(t, l); status != http.StatusOK {
		t.Errorf("%d, %s", status, why)
	}

	// A full disk keeps no client out: the store has room of its own.
	_ = os.WriteFile(filepath.Join(site.State, "ballast"), make([]byte, 1<<17), 0o600) // as much of it as there is room for
	time.Sleep(readinessAge)
	if status, why := readiness(t, l); status != http.StatusOK {
		t.Errorf("on a full disk: %d, %s", status, why)
	}
	if err := all[0].visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
		t.Errorf("on a full disk: %v", err)
	}

	// Without its files, the next start would know nothing of what was used.
	segments, err := filepath.Glob(filepath.Join(site.State, "replay.?"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("the store has no files: %v", err)
	}
	for _, name := range segments {
		if err := os.Rename(name, name+".away"); err != nil {
			t.Fatal(err)
		}
	}
	unready(t, l, g, "store", "no such file or directory")
	for _, name := range segments {
		if err := os.Rename(name+".away", name); err != nil {
			t.Fatal(err)
		}
	}
	readyAgain(t, l)

	killRestorer(t, g)
	l.Gateway.MustRun("ip", "link", "set", lab.Tunnel, "down")
	unready(t, l, g, "device", "the interface "+lab.Tunnel+" is down")
}

// readyAgain waits until the gateway is.
func readyAgain(t *testing.T, l *lab.Lab) {
	t.Helper()
	for end := time.Now().Add(tried); ; time.Sleep(sampleEvery) {
		status, why := readiness(t, l)
		if status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it is not ready again: %d, %s", status, why)
		}
	}
}

func TestReadinessFailsForUnknownUpstreamName(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	all := endpoints("nowhere.invalid:80")
	g := l.NewSite(t, program.get(t), configuration(all[0])).Start(t)
	unready(t, l, g, "upstreams", "service "+all[0].name+": its upstream's name cannot be resolved")
}

func TestReadinessFailsWhileDraining(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 0).String())
	all := endpoints(s.Addr)
	g := l.NewSite(t, program.get(t), configuration(all...)).Start(t)
	conn, err := all[0].enter(withTimeout(t, answerTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, conn)
	if got := ask(t, conn, "hello"); got != s.Greeting {
		t.Fatalf("%q", got)
	}
	g.Signal(syscall.SIGTERM)
	if err := g.WaitLog(withTimeout(t, answerTime), func(log string) bool { return strings.Contains(log, "stopping") }); err != nil {
		t.Fatal(err)
	}
	if status, why := readiness(t, l); status != http.StatusServiceUnavailable || !strings.Contains(why, "stopping") {
		t.Errorf("while it drains: %d, %s", status, why)
	}
}
