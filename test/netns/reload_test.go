//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	carolSecret = "carol's secret, thirty-two bytes"
	// revokeTime is how soon a session of a removed client must end.
	revokeTime = time.Second
	// reloadLines make a stream that is longer than the reloads beside it: 150
	// MB.
	reloadLines = 4_000_000
)

// carol may enter every endpoint, until she is removed.
func carol(h *lab.Host) lab.Peer {
	return lab.Peer{Host: h, ID: "carol", Secret: []byte(carolSecret), KnockPort: knockPort}
}

// change replaces a text in the site's configuration.
func change(t *testing.T, s *lab.Site, from, to string) {
	t.Helper()
	b, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), from, to, 1)
	if text == string(b) {
		t.Fatalf("%q is not in the configuration", from)
	}
	s.Write(t, text)
}

// hangUp sends the gateway SIGHUP and waits until it has said so many times
// what came of it.
func hangUp(t *testing.T, g *lab.Gateway, words string, times int) {
	t.Helper()
	g.Signal(syscall.SIGHUP)
	if err := g.WaitLog(withTimeout(t, answerTime), func(log string) bool { return strings.Count(log, words) >= times }); err != nil {
		t.Fatalf("%v\n%s", err, g.Log())
	}
}

const (
	reloadedWords = "configuration reloaded"
	refusedWords  = "configuration rejected"
)

// stream reads a long reply through an endpoint, and says at the end whether
// all of it came.
func stream(ctx context.Context, d endpoint, v lab.Peer) error {
	conn, err := d.enter(ctx, v)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "whole %d\n", reloadLines); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, conn)
	if want := int64(reloadLines * len(lab.ReplyLine)); err != nil || n != want {
		return fmt.Errorf("%s: %d bytes of %d: %w", d.name, n, want, err)
	}
	return nil
}

func TestReloadUnderTraffic(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	text := strings.Replace(configuration(all...), "  - {id: bob", fmt.Sprintf("  - {id: carol, secret: %q}\n  - {id: bob", carolSecret), 1)
	site := l.NewSite(t, program.get(t), text)
	g := site.Start(t)

	sessions := drips(t, l, all)
	var streams sync.WaitGroup
	for _, d := range all[1:3] {
		streams.Go(func() {
			if err := stream(t.Context(), d, alice(l.Client)); err != nil {
				t.Errorf("a stream beside the reloads: %v", err)
			}
		})
	}
	goOn := func() {
		t.Helper()
		for _, d := range sessions {
			d.flows(t)
		}
	}

	t.Run("a service is added", func(t *testing.T) {
		added := endpoint{name: "added", listen: netip.MustParseAddrPort("10.77.0.9:8100"), mode: "knock-auth", upstream: s.Addr}
		change(t, site, "services:\n  - name", services(added)+"  - name")
		change(t, site, "services: [", "services: [added, ")
		if out, err := site.Knockgw(withTimeout(t, answerTime), "check"); err != nil || !strings.Contains(out, "service added added") {
			t.Errorf("check says %v\n%s", err, out)
		}
		hangUp(t, g, reloadedWords, 1)
		if err := added.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
		goOn()
	})

	t.Run("a client is removed", func(t *testing.T) {
		var hers []net.Conn
		for _, d := range all {
			conn, err := d.enter(withTimeout(t, admitTime), carol(l.Attacker))
			if err != nil {
				t.Fatal(err)
			}
			defer closeConn(t, conn)
			if got := ask(t, conn, "hello"); got != s.Greeting {
				t.Fatalf("%s: %q", d.name, got)
			}
			if _, err := fmt.Fprintf(conn, "drip %d\n", dripping); err != nil {
				t.Fatal(err)
			}
			hers = append(hers, conn)
		}
		change(t, site, fmt.Sprintf("  - {id: carol, secret: %q}\n", carolSecret), "")
		began := time.Now()
		out, err := site.Knockgw(withTimeout(t, answerTime), "reload")
		if err != nil || !strings.Contains(out, "client carol removed") {
			t.Fatalf("reload says %v\n%s", err, out)
		}
		time.Sleep(revokeTime - time.Since(began))
		capture := l.Attacker.Capture(lab.Link)
		for _, conn := range hers {
			_, _ = conn.Write([]byte("is the session alive\n"))
		}
		time.Sleep(2 * lab.DripInterval)
		l.Attacker.Silent(capture.Stop())
		goOn()
		if n := g.Metrics()[`knockgw_flow_ends_total{reason="killed"}`]; n < float64(len(all)) {
			t.Errorf("%v flows were killed, want %d", n, len(all))
		}
	})

	t.Run("a bad file is refused", func(t *testing.T) {
		change(t, site, "window: 30s", "windows: 30s")
		hangUp(t, g, refusedWords, 1)
		if !strings.Contains(g.Log(), site.Config+":") || !strings.Contains(g.Log(), "windows") {
			t.Errorf("the log does not name the line:\n%s", g.Log())
		}
		out, err := site.Knockgw(withTimeout(t, answerTime), "reload")
		if code := lab.ExitCode(err); code != exitConfiguration || !strings.HasPrefix(out, site.Config+":") || strings.Count(out, "\n") != 1 {
			t.Errorf("reload ended with %d:\n%s", code, out)
		}
		m := g.Metrics()
		if m["knockgw_config_last_reload_successful"] != 0 || m[`knockgw_config_reloads_total{result="rejected"}`] != 2 {
			t.Errorf("the metrics say %v, %v", m["knockgw_config_last_reload_successful"], m[`knockgw_config_reloads_total{result="rejected"}`])
		}
		goOn()
		for _, d := range all {
			if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
				t.Error(err)
			}
		}
		change(t, site, "windows: 30s", "window: 30s")
	})

	t.Run("what needs a restart", func(t *testing.T) {
		change(t, site, "routes: [", "routes: [10.79.0.0/24, ")
		out, err := site.Knockgw(withTimeout(t, answerTime), "reload")
		if err != nil || !strings.Contains(out, "tun.routes changed: waits for a restart") {
			t.Errorf("reload says %v\n%s", err, out)
		}
		outside := endpoint{name: "outside", listen: netip.MustParseAddrPort("10.79.0.1:8100"), mode: "knock", upstream: s.Addr}
		change(t, site, "services:\n  - name", services(outside)+"  - name")
		out, err = site.Knockgw(withTimeout(t, answerTime), "reload")
		if lab.ExitCode(err) != exitConfiguration || !strings.Contains(out, "restart the gateway") {
			t.Errorf("a service outside of the routes: %v\n%s", err, out)
		}
		out, err = site.Knockgw(withTimeout(t, answerTime), "check")
		if err != nil || !strings.Contains(out, "would reject") || !strings.Contains(out, "outside") {
			t.Errorf("check says %v\n%s", err, out)
		}
		// Without --config, as an operator does whose file has another place.
		status := l.Gateway.Command(withTimeout(t, answerTime), program.get(t).Path, "status")
		status.Env = append(os.Environ(), "KNOCKGW_CONFIG="+site.Config)
		out, err = l.Gateway.RunCommand(status)
		if err != nil || !strings.Contains(out, "tun.routes") || !strings.Contains(out, "ready") {
			t.Errorf("status says %v\n%s", err, out)
		}
		change(t, site, services(outside), "services:\n")
		change(t, site, "routes: [10.79.0.0/24, ", "routes: [")
		hangUp(t, g, reloadedWords, 4)
		goOn()
	})

	streams.Wait()
	g.Stop()
	out, err := site.Knockgw(withTimeout(t, answerTime), "reload")
	if lab.ExitCode(err) != 1 || !strings.Contains(out, "no gateway is running") {
		t.Errorf("after the end: %v\n%s", err, out)
	}
}

// An attacker that never stops asking meets every moment of a reload.
func TestSilenceDuringReloads(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := hiddenEndpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	g := site.Start(t)
	sessions := drips(t, l, all)
	capture := l.Attacker.Capture(lab.Link)
	stop := keepInjecting(t, l.Attacker)
	added := services(endpoint{name: "added", listen: netip.MustParseAddrPort("10.77.0.9:8100"), mode: "knock", upstream: s.Addr})
	for i := range 10 {
		change(t, site, "services:\n  - name", added+"  - name")
		hangUp(t, g, reloadedWords, 2*i+1)
		change(t, site, added, "services:\n")
		hangUp(t, g, reloadedWords, 2*i+2)
	}
	stop()
	l.Attacker.Silent(capture.Stop())
	for _, d := range sessions {
		d.flows(t)
	}
}
