//go:build linux

package netns_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	daveSecret = "dave's secret, thirty-two bytes."
	// daveBehind is how far Dave's clock is behind: more than the window of 30
	// s.
	daveBehind = 41 * time.Second
	// clockError is how exactly that is said: what a knock takes on its way on
	// a busy machine.
	clockError = time.Second

	// loadSeconds is how long iperf3 sends; both reloads are within that.
	loadSeconds = 6
)

// A soak is a gateway that an operator works at.
type soak struct {
	*lab.Lab

	site    *lab.Site
	gateway *lab.Gateway
	lines   *lab.LineServer
	office  endpoint // where people work
	bulk    *iperf
}

// newSoak starts the gateway with Alice, Carol and Dave, and an audit.
func newSoak(t *testing.T) *soak {
	t.Helper()
	l := lab.New(t)
	d := &soak{Lab: l, lines: l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())}
	d.office = endpoint{name: "office", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.1:22"), upstream: d.lines.Addr}
	d.bulk = serveIperf(d.Lab)
	text := strings.Replace(configuration(d.office, d.bulk.endpoint), "  - {id: bob", fmt.Sprintf("  - {id: carol, secret: %q}\n  - {id: dave, secret: %q}\n  - {id: bob",
		carolSecret, daveSecret), 1)
	d.site = l.NewSite(t, program.get(t), text+"audit: {file: audit.log}\n")
	d.gateway = d.site.Start(t)
	return d
}

// run runs one of the operator's commands and returns its words.
func (d *soak) run(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, err := d.site.Knockgw(withTimeout(t, answerTime), command, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// flows is what `knockgw flows` says.
func (d *soak) flows(t *testing.T) []control.Flow {
	t.Helper()
	var list control.Flows
	if err := json.Unmarshal([]byte(d.run(t, "flows", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Flows
}

// enter begins a session in the office.
func (d *soak) enter(t *testing.T, v lab.Peer) net.Conn {
	t.Helper()
	conn, err := d.office.enter(withTimeout(t, admitTime), v)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, "hello"); got != d.lines.Greeting {
		t.Fatalf("the upstream answered %q", got)
	}
	return conn
}

// A day of an operator's, with the program as it is used and each command as it
// is typed.
func TestGatewaySoak(t *testing.T) {
	testtool.RequireLong(t, "takes an operator through a day under load")
	t.Parallel()
	lab.RequireTools(t, "nmap", "iperf3", "tcpdump", "tshark")
	d := newSoak(t)
	watch := d.start(t, "status", "--watch")
	if err := watch.WaitLog(withTimeout(t, answerTime), func(log string) bool { return strings.Count(log, "ready") >= 2 }); err != nil {
		t.Errorf("%v\n%s", err, watch.Log())
	}
	watch.Signal(syscall.SIGINT)
	if code, err := watch.Wait(withTimeout(t, answerTime)); err != nil || code != 0 {
		t.Errorf("status --watch ended with %d, %v", code, err)
	}
	session := d.enter(t, alice(d.Client))
	t.Run("a session is among the flows", func(t *testing.T) { d.checkFlows(t, session) })
	t.Run("reloads under load", func(t *testing.T) { d.reloadsUnderLoad(t, session) })
	t.Run("a clock that is wrong", d.checkClock)
	t.Run("a scan", func(t *testing.T) { d.checkTrace(t) })
	t.Run("a session is revoked", func(t *testing.T) { d.checkRevoke(t, session) })
	t.Run("the end", d.checkDrain)
	t.Run("the audit", d.checkAudit)
}

func (d *soak) checkFlows(t *testing.T, conn net.Conn) {
	all := d.flows(t)
	if len(all) != 1 {
		t.Fatalf("%d flows: %+v", len(all), all)
	}
	f := all[0]
	if f.Client != "alice" || f.Source.String() != conn.LocalAddr().String() || f.Service != "office" || f.Upstream != d.lines.Addr ||
		f.Target != d.office.listen || f.Received == 0 || f.Sent == 0 || f.Age <= 0 {
		t.Errorf("flows says %+v", f)
	}
	if out := d.run(t, "flows"); !strings.Contains(out, "alice") || !strings.Contains(out, conn.LocalAddr().String()) {
		t.Errorf("flows says\n%s", out)
	}
}

// reloadsUnderLoad adds a service and removes Carol while iperf3 has the
// gateway busy.
func (d *soak) reloadsUnderLoad(t *testing.T, session net.Conn) {
	hers := carol(d.Client)
	hers.From = d.Client.Other4
	carols := d.enter(t, hers)
	defer closeConn(t, carols)

	var load sync.WaitGroup
	defer load.Wait()
	load.Go(func() {
		if err := d.bulk.measure(t.Context(), alice(d.Client), loadSeconds); err != nil {
			t.Error(err)
		}
	})
	load.Go(func() {
		if err := stream(t.Context(), d.office, alice(d.Client)); err != nil {
			t.Errorf("a stream beside the reloads: %v", err)
		}
	})
	time.Sleep(2 * time.Second) // until iperf3 is at it, whose own handshake takes several round trips

	added := endpoint{name: "added", mode: "knock-auth", listen: netip.MustParseAddrPort("10.77.0.9:8100"), upstream: d.lines.Addr}
	change(t, d.site, "services:\n  - name", services(added)+"  - name")
	change(t, d.site, "services: [", "services: [added, ")
	if out := d.run(t, "reload"); !strings.Contains(out, "service added added") {
		t.Errorf("reload says\n%s", out)
	}
	if err := added.visit(t.Context(), alice(d.Client), d.lines.Greeting); err != nil {
		t.Error(err)
	}

	change(t, d.site, fmt.Sprintf("  - {id: carol, secret: %q}\n", carolSecret), "")
	if out := d.run(t, "reload"); !strings.Contains(out, "client carol removed") {
		t.Errorf("reload says\n%s", out)
	}
	for _, f := range d.flows(t) {
		if f.Client == "carol" {
			t.Errorf("she is still inside: %+v", f)
		}
	}
	if got := ask(t, session, "hello"); got != d.lines.Greeting {
		t.Errorf("the session from before got %q", got)
	}
}

func (d *soak) checkClock(t *testing.T) {
	dave := lab.Peer{Host: d.Client, ID: "dave", Secret: []byte(daveSecret), KnockPort: knockPort, Behind: daveBehind}
	if err := dave.Knock(t.Context(), d.office.listen, lab.NewSession()); err != nil {
		t.Fatal(err)
	}
	var his control.ClientState
	for range 100 { // until the knock is decided
		var list control.Clients
		if err := json.Unmarshal([]byte(d.run(t, "clients", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Clients {
			if c.ID == "dave" {
				his = c
			}
		}
		if his.LastDenied != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if his.LastDenied == nil || his.LastDenied.Result != "stale" || his.LastSeen != nil {
		t.Fatalf("clients says of Dave %+v", his)
	}
	if his.LastDenied.ClockDifference == nil {
		t.Fatal("clients does not say how far Dave's clock is off")
	}
	if off := time.Duration(*his.LastDenied.ClockDifference*float64(time.Second)) + daveBehind; off.Abs() > clockError {
		t.Errorf("clients says that Dave's clock is off by %v s; it is behind by %v", *his.LastDenied.ClockDifference, daveBehind)
	}
	if out := d.run(t, "clients"); !strings.Contains(out, "the client's clock is 41") || !strings.Contains(out, "behind the gateway's") {
		t.Errorf("clients says\n%s", out)
	}
}

// checkRevoke ends a session from the operator's side: the client that was let
// in hears a reset. (How soon, is measured by
// TestRevocationTakesEffectWithinSecond.)
func (d *soak) checkRevoke(t *testing.T, conn net.Conn) {
	if out := d.run(t, "revoke", "--client", "alice"); !strings.Contains(out, "1 flow ") {
		t.Errorf("revoke says\n%s", out)
	}
	if all := d.flows(t); len(all) != 0 {
		t.Errorf("and yet there are %+v", all)
	}
	_ = conn.SetReadDeadline(time.Now().Add(revokeTime))
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client hears %v, and not a reset", err)
	}
	_ = conn.Close()
}

// checkDrain stops the gateway during a session, which may finish.
func (d *soak) checkDrain(t *testing.T) {
	conn := d.enter(t, alice(d.Client))
	d.gateway.Signal(syscall.SIGTERM)
	if err := d.gateway.WaitLog(withTimeout(t, answerTime), func(log string) bool { return strings.Contains(log, "msg=stopping") }); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, "echo one more thing"); got != "one more thing" {
		t.Errorf("while it drained, the answer was %q", got)
	}
	if _, err := fmt.Fprintln(conn, "bye"); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(conn); err != nil || strings.TrimSpace(string(b)) != d.lines.Greeting {
		t.Errorf("at the end: %q, %v", b, err)
	}
	closeConn(t, conn)
	if code, err := d.gateway.Wait(withTimeout(t, admitTime)); err != nil || code != 0 {
		t.Errorf("it ended with %d, %v", code, err)
	}
}

// checkAudit looks for all of it in the audit, and for what must not be in it.
func (d *soak) checkAudit(t *testing.T) {
	file := filepath.Join(filepath.Dir(d.site.Config), "audit.log")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("it is world-readable: %v, %v", info.Mode(), err)
	}
	var events []audit.Event
	for line := range strings.Lines(string(b)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	for what, is := range map[string]func(e audit.Event) bool{
		"the start":          func(e audit.Event) bool { return e.Kind == audit.Start },
		"a knock of Alice's": func(e audit.Event) bool { return e.Kind == audit.Knock && e.Client == "alice" && e.Service == "office" },
		"the iperf3 session": func(e audit.Event) bool { return e.Kind == audit.Session && e.Service == "bulk" && e.Received > 1<<20 },
		"the new service":    func(e audit.Event) bool { return e.Kind == audit.Reload && strings.Contains(e.Reason, "added") },
		"Carol's removal":    func(e audit.Event) bool { return e.Kind == audit.Reload && strings.Contains(e.Reason, "carol") },
		"Carol's last moment": func(e audit.Event) bool {
			return e.Kind == audit.Session && e.Client == "carol" && e.Reason == "killed"
		},
		"Dave's clock": func(e audit.Event) bool {
			return e.Kind == audit.Denied && e.Client == "dave" && e.ClockDifference < -daveBehind.Seconds()+1 && e.ClockDifference > -daveBehind.Seconds()-2
		},
		"the revocation": func(e audit.Event) bool { return e.Kind == audit.Revoke && e.Client == "alice" && e.Operator != "" },
		"Alice's long session": func(e audit.Event) bool {
			return e.Kind == audit.Session && e.Client == "alice" && e.Service == "office" && e.Reason == "killed" && e.Seconds > loadSeconds/2
		},
		"Alice's last session": func(e audit.Event) bool {
			return e.Kind == audit.Session && e.Client == "alice" && e.Reason == "done" && e.Upstream == d.lines.Addr
		},
		"the stop": func(e audit.Event) bool { return e.Kind == audit.Stop },
	} {
		found := false
		for _, e := range events {
			found = found || is(e)
		}
		if !found {
			t.Errorf("%s is not in the audit", what)
		}
	}
	for _, text := range []string{string(b), d.gateway.Log()} {
		for _, secret := range []string{aliceSecret, bobSecret, carolSecret, daveSecret} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in the audit or in the log", secret)
			}
		}
	}
	if strings.Contains(string(b), d.Attacker.Addr4.String()) {
		t.Error("attackers are in the audit, and could fill it")
	}
	if t.Failed() {
		t.Logf("the audit:\n%s", b)
	}
}

// jsonLines reads what a program has written, one object a line.
func jsonLines[E any](r io.Reader) (all []E, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var e E
		if wrong := json.Unmarshal(lines.Bytes(), &e); wrong != nil {
			return all, fmt.Errorf("%q: %w", lines.Text(), wrong)
		}
		all = append(all, e)
	}
	return all, errors.Join(err, lines.Err())
}
