//go:build linux

package netns_test

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/doctor"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// routesReady is the metric of whether all that leads packets to the gateway is
// there.
const routesReady = `knockgw_ready{check="routes"}`

// noticed fails the test unless the gateway notices, soon, whether all that
// leads packets to it is there.
func noticed(t *testing.T, l *lab.Lab, g *lab.Gateway, intact bool) {
	t.Helper()
	want := 0.0
	if intact {
		want = 1
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		m := g.Metrics()
		if m[routesReady] == want {
			break
		}
		if time.Since(began) > answerTime {
			t.Fatalf("%s is %v, want %v\n%s", routesReady, m[routesReady], want,
				l.Gateway.MustRun("ip", "route", "show", "table", "all"))
		}
	}
}

// restorer is the process of the gateway's that restores its routes.
func restorer(t *testing.T, g *lab.Gateway) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", g.PID(), g.PID()))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		// It may have been started by another thread than the first.
		all, gerr := os.ReadDir(fmt.Sprintf("/proc/%d/task", g.PID()))
		if gerr != nil {
			t.Fatal(gerr)
		}
		for _, task := range all {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", g.PID(), task.Name()))
			if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				break
			}
		}
	}
	if err != nil {
		t.Fatalf("the gateway has no process that restores routes: %v", err)
	}
	return pid
}

// killRestorer leaves the gateway without its restorer.
func killRestorer(t *testing.T, g *lab.Gateway) {
	t.Helper()
	if err := syscall.Kill(restorer(t, g), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitLog(t, g.Process, answerTime, "the process that restores routes has ended")
}

// deleteRules deletes the gateway's rules one by one: a flush leaves those of
// priority 0 alone.
func deleteRules(t *testing.T, l *lab.Lab, family string) {
	t.Helper()
	for {
		if _, err := l.Gateway.Run(t.Context(), "ip", family, "rule", "del", "pref", "0", "protocol", "107"); err != nil {
			return
		}
	}
}

// routesAndRules is all that leads packets to the gateway, as ip shows it.
func routesAndRules(l *lab.Lab) string {
	var b strings.Builder
	for _, family := range []string{"-4", "-6"} {
		for _, show := range [][]string{{"rule"}, {"route", "show", "table", "all", "proto", "107"}} {
			b.WriteString(l.Gateway.MustRun("ip", append([]string{family}, show...)...))
		}
	}
	return regexp.MustCompile(` linkdown| +$`).ReplaceAllString(b.String(), "")
}

// assertRestored fails the test unless all that leads packets to the gateway is
// soon as it was.
func assertRestored(t *testing.T, l *lab.Lab, before string) {
	t.Helper()
	var now string
	for began := time.Now(); time.Since(began) < answerTime; time.Sleep(20 * time.Millisecond) {
		if now = routesAndRules(l); now == before {
			return
		}
	}
	t.Fatalf("there was\n%s\nand now there is\n%s", before, now)
}

func TestRoutesAndRulesAreRestored(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string][]string{
		"routes, as a network manager flushes them": {"ip route flush proto 107", "ip -6 route flush proto 107",
			"ip route flush table 107", "ip -6 route flush table 107"},
		"the route to the device": {"ip route del 10.77.0.0/24 dev knock0"},
		"the blackhole":           {"ip -6 route del blackhole fd77::/64 metric 9999"},
		"the interface is down":   {"ip link set knock0 down"},
		// An address that comes and goes removes the IPv4 routes, without a
		// notification of the kernel.
		"an address on the interface for a moment": {"ip addr add 192.0.2.9/32 dev knock0", "ip addr del 192.0.2.9/32 dev knock0"},
		"a rule":                             {"ip rule del pref 0 to 10.1.3.1 ipproto tcp dport 22 lookup 107"},
		"the rules":                          {"while ip rule del pref 0 protocol 107; do :; done; while ip -6 rule del pref 0 protocol 107; do :; done"},
		"the order of the rules":             {"ip rule add pref 1 lookup local protocol kernel; ip rule del pref 0 lookup local protocol kernel", "ip rule del pref 0 to 10.1.3.1 ipproto tcp dport 22 lookup 107; ip rule add pref 0 lookup local protocol kernel; ip rule del pref 1 lookup local"},
		"IPv6 is switched off for a moment":  {"ip link set lo down; ip link set lo up"},
		"rules and then all that is foreign": {"ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default; ip route flush proto 107"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, s, other, all := newHostPorts(t)
			g := site.Start(t)
			noticed(t, l, g, true)
			before := routesAndRules(l)
			for _, command := range hurt {
				if out, err := l.Gateway.Run(t.Context(), "sh", "-c", command); err != nil {
					t.Logf("%s: %v %s", command, err, out)
				}
			}
			assertRestored(t, l, before)
			noticed(t, l, g, true)
			assertReachable(t, l, all, s.Greeting)
			assertSilent(t, l, all, true)
			others(t, l, other)
			g.Stop()
			site.Down(t)
		})
	}
}

// An open session outlives the deletion, and what is deleted over and over is
// added over and over.
func TestSessionSurvivesDeletedRoutes(t *testing.T) {
	t.Parallel()
	l, site, s, _, all := newHostPorts(t)
	g := site.Start(t)
	conn, err := all[0].enter(withTimeout(t, admitTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, conn)
	if got := ask(t, conn, "hello"); got != s.Greeting {
		t.Fatalf("the service said %q", got)
	}
	before := routesAndRules(l)
	for range 5 {
		deleteRules(t, l, "-4")
		l.Gateway.MustRun("ip", "route", "flush", "table", "107")
		assertRestored(t, l, before)
	}
	if got := ask(t, conn, "hello"); got != s.Greeting {
		t.Errorf("after that the service says %q", got)
	}
	noticed(t, l, g, true)
}

// A gateway that has lost its routes and cannot add them again says so, and
// ends, for the service manager to start it.
func TestGatewayEndsIfRoutesCannotBeRestored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ hurt, says string }{
		"routes": {"ip route flush proto 107", "10.77.0.0/24 to knock0"},
		"rules":  {"while ip rule del pref 0 protocol 107; do :; done", "rule 0: to 10.1.3.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, s, _, all := newHostPorts(t)
			g := site.Start(t)
			noticed(t, l, g, true)
			killRestorer(t, g)
			if _, err := l.Gateway.Run(t.Context(), "sh", "-c", c.hurt); err != nil {
				t.Fatal(err)
			}
			noticed(t, l, g, false)
			waitLog(t, g.Process, answerTime, c.says)
			code, err := g.Wait(withTimeout(t, 3*answerTime))
			if err != nil || code != 1 || !strings.Contains(g.Log(), "could not be restored") {
				t.Errorf("it ended with %d, %v", code, err)
			}
			g = site.Start(t) // as the service manager does
			noticed(t, l, g, true)
			assertReachable(t, l, all, s.Greeting)
			assertSilent(t, l, all, true)
		})
	}
}

// A missing blackhole does not stop the gateway: it continues, and is
// not ready.
func TestGatewayContinuesWithoutBlackhole(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	g := site.Start(t)
	killRestorer(t, g)
	l.Gateway.MustRun("ip", "-6", "route", "del", "blackhole", "fd77::/64", "metric", "9999")
	noticed(t, l, g, false)
	if f := diagnosis(t, site, 1)["routes"]; f.Level != doctor.Fail || !strings.Contains(f.Message, "the blackhole of fd77::/64") || !strings.Contains(f.Fix, "systemctl restart") {
		t.Errorf("doctor says %+v", f)
	}
	if _, err := g.Wait(withTimeout(t, 12*time.Second)); err == nil {
		t.Fatal("the gateway has ended")
	}
	assertReachable(t, l, all, s.Greeting)
	l.Gateway.MustRun("ip", "-6", "route", "add", "blackhole", "fd77::/64", "metric", "9999", "proto", "107")
	noticed(t, l, g, true)
	waitLog(t, g.Process, answerTime, "routes and rules are complete again")
}

// The sockets on the hidden ports hold them while the rules are gone.
func TestPortsStaySilentWithoutRules(t *testing.T) {
	t.Parallel()
	l, site, _, _, all := newHostPorts(t)
	g := site.Start(t)
	noticed(t, l, g, true)
	killRestorer(t, g)
	for _, family := range []string{"-4", "-6"} {
		deleteRules(t, l, family)
		l.Gateway.MustRun("ip", family, "route", "flush", "table", "107")
	}
	// The host says of a first fragment of IPv6 with half a header that it is
	// one, whatever its port.
	assertSilent(t, l, all[:1], true)
	if !strings.Contains(g.Log(), "could not be restored") {
		noticed(t, l, g, false)
	}
}

func TestRenamedInterfaceIsFollowed(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	g := site.Start(t)
	noticed(t, l, g, true)
	l.Gateway.MustRun("ip", "link", "set", lab.Tunnel, "name", "other7")
	waitLog(t, g.Process, answerTime, "interface renamed")
	noticed(t, l, g, true)
	for name, value := range g.Metrics() {
		if strings.HasPrefix(name, "knockgw_ready{") && value != 1 {
			t.Errorf("%s is %v", name, value)
		}
	}
	assertReachable(t, l, all, s.Greeting)
	l.Gateway.MustRun("ip", "route", "flush", "proto", "107")
	noticed(t, l, g, true)
	assertReachable(t, l, all, s.Greeting)
	if strings.Contains(g.Log(), "level=ERROR") && !strings.Contains(g.Log(), "added again") {
		t.Errorf("it complains:\n%s", g.Log())
	}
	g.Stop()
}

// The remedy for rules that were deleted is a restart, and a stop is as silent
// as ever: sessions are reset, and the host does not answer for the ports.
func TestStopAfterDeletedRulesIsSilent(t *testing.T) {
	t.Parallel()
	l, site, s, _, all := newHostPorts(t)
	g := site.Start(t)
	var sessions []net.Conn
	for _, d := range all {
		conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
		if err != nil {
			t.Fatal(err)
		}
		defer closeConn(t, conn)
		if got := ask(t, conn, "hello"); got != s.Greeting {
			t.Fatalf("the service said %q", got)
		}
		sessions = append(sessions, conn)
	}
	for _, family := range []string{"-4", "-6"} {
		deleteRules(t, l, family)
	}
	g.Stop()
	for _, conn := range sessions {
		if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || timedOut(err) {
			t.Errorf("the session with %v hangs: %v", conn.RemoteAddr(), err)
		}
	}
	assertSilent(t, l, all, false)
	g = site.Start(t)
	noticed(t, l, g, true)
	assertReachable(t, l, all, s.Greeting)
}
