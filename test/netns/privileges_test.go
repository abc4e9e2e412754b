//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// nothing is how /proc writes a set without capabilities.
const nothing = "0000000000000000"

// unprivileged fails the test unless every thread of a process has the
// unprivileged ids, has no capability, gets none back, and is behind a filter
// of system calls.
func unprivileged(t *testing.T, pid int) {
	t.Helper()
	ids := strings.TrimSuffix(strings.Repeat(strconv.Itoa(unprivilegedID)+"\t", 4), "\t")
	want := map[string]string{
		"Uid": ids, "Gid": ids, "Groups": "",
		"CapInh": nothing, "CapPrm": nothing, "CapEff": nothing, "CapAmb": nothing,
		"NoNewPrivs": "1", "Seccomp": "2",
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("process %d has threads %v, %v", pid, threads, err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			if w, ok := want[key]; ok && strings.TrimSpace(value) != w {
				t.Errorf("%s has %s %q, want %q", path, key, strings.TrimSpace(value), w)
			}
		}
	}
}

// assertReachable fails the test unless the endpoints open.
func assertReachable(t *testing.T, l *lab.Lab, all []endpoint, greeting string) {
	t.Helper()
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), greeting); err != nil {
			t.Error(err)
		}
	}
}

func TestGatewayWorksUnprivileged(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	gateway := site.Start(t)
	if os.Getenv(lab.PrivilegedVariable) != "" {
		t.Skip("the gateway was told to keep its privileges")
	}

	unprivileged(t, gateway.PID())
	assertReachable(t, l, all, s.Greeting)
	unprivileged(t, gateway.PID()) // threads that have begun since
	if n := gateway.Metrics()["knockgw_filter_attached"]; n != 1 {
		t.Errorf("knockgw_filter_attached is %v", n)
	}

	// A new service: the file is read, the filter's tables change, the socket
	// answers.
	text, err := os.ReadFile(site.Config)
	if err != nil {
		t.Fatal(err)
	}
	added := endpoint{name: "added", listen: netip.MustParseAddrPort("10.77.0.50:50"), mode: "knock", upstream: s.Addr}
	site.Write(t, strings.Replace(string(text), "services: [auth-v4", "services: [added, auth-v4", 1)+
		strings.TrimPrefix(services(added), "services:\n"))
	if out, err := site.Knockgw(withTimeout(t, answerTime), "reload"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	assertReachable(t, l, append(all, added), s.Greeting)
	if n := gateway.Metrics()["knockgw_filter_attached"]; n != 1 {
		t.Errorf("knockgw_filter_attached is %v after a reload", n)
	}

	files, err := os.ReadDir(site.State)
	if err != nil || len(files) == 0 {
		t.Errorf("the state directory has %v, %v", files, err)
	}
	gateway.Stop()
	site.Start(t) // its own files do not conflict
	assertReachable(t, l, all, s.Greeting)
}

func TestRootMustNameAccount(t *testing.T) {
	t.Parallel()
	if u, err := user.Lookup("knockgw"); err == nil {
		t.Skipf("this system has a user %s", u.Username)
	}
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	before := host(l)
	for name, c := range map[string]struct {
		flags []string
		code  int
		says  string
	}{
		"by default":     {nil, exitNotPermitted, "useradd"},
		"root's groups":  {[]string{"--user", "root", "--group", "65534"}, exitUsage, "omit --group"},
		"no such user":   {[]string{"--user", "no-such-user"}, exitNotPermitted, "no-such-user"},
		"both ways":      {[]string{"--user", "daemon", "--insecure-keep-privileges"}, exitUsage, "exclude"},
		"two interfaces": {[]string{"--user", "65534", "--group", "65534", "--prepared", "--tun-fd", "3"}, exitUsage, "exclude"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := site.Knockgw(withTimeout(t, answerTime), "run", c.flags...)
			if code := lab.ExitCode(err); code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("it ended with %d, want %d and %q:\n%s", code, c.code, c.says, out)
			}
		})
	}
	assertUnchanged(t, l, before)
}

// Root that is told to stay root loses all but its name.
func TestRootKeptGivesUpCapabilities(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	for _, path := range []string{filepath.Dir(site.Config), site.Config, site.State} {
		if err := os.Chown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	gateway := l.Gateway.Start(program.get(t).Path, "run", "--user", "root", "--config", site.Config)
	waitLog(t, gateway, admitTime, "msg=ready")
	if log := gateway.Log(); !strings.Contains(log, "stays root") || !strings.Contains(log, "privileges dropped") {
		t.Errorf("it says\n%s", log)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", gateway.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%q is not in\n%s", want, status)
		}
	}
	assertReachable(t, l, all, s.Greeting)
}

func TestUnreadableFileIsReportedFirst(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	if err := os.Chown(site.Config, 0, 0); err != nil { // and its mode is 0600
		t.Fatal(err)
	}
	before := host(l)
	run := site.Run()
	for _, command := range [][]string{run, {run[0], "check", "--config", site.Config, "--user", "daemon"}} {
		out, err := l.Gateway.Run(withTimeout(t, answerTime), command[0], command[1:]...)
		if code := lab.ExitCode(err); code != exitConfiguration || !strings.Contains(out, site.Config) || !strings.Contains(out, "chown") {
			t.Errorf("%v ended with %d, want %d, the file and a remedy:\n%s", command, code, exitConfiguration, out)
		}
	}
	assertUnchanged(t, l, before)
}

func TestUnwritableDirectoryIsReported(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	if err := os.Chown(site.State, 0, 0); err != nil { // and its mode is 0700
		t.Fatal(err)
	}
	run := site.Run()
	out, err := l.Gateway.Run(withTimeout(t, answerTime), run[0], run[1:]...)
	if code := lab.ExitCode(err); code != exitNotPermitted || !strings.Contains(out, site.State) || !strings.Contains(out, "chown") {
		t.Errorf("it ended with %d, want %d, the directory and a remedy:\n%s", code, exitNotPermitted, out)
	}
	assertBlackholed(t, l) // as after a crash
}

// As the systemd unit starts it: an account from the start, with two
// capabilities.
func TestCapabilitiesSufficeToStart(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "setpriv")
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	number := strconv.Itoa(unprivilegedID)
	script := sharedTUN + `exec setpriv --reuid ` + number + ` --regid ` + number + ` --clear-groups --no-new-privs \
		--bounding-set=-all,+net_admin,+bpf --inh-caps=-all,+net_admin,+bpf --ambient-caps=-all,+net_admin,+bpf "$0" run --config "$1"`
	cmd := l.Gateway.Command(context.Background(), "sh", "-c", script, program.get(t).Path, site.Config)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	gateway := l.Gateway.StartCommand(t, cmd)
	ready(t, gateway)
	unprivileged(t, gateway.PID())
	assertReachable(t, l, all, s.Greeting)
	if strings.Contains(gateway.Log(), "dropped in user space") {
		t.Errorf("there is no packet filter:\n%s", gateway.Log())
	}
	before := routesAndRules(l)
	l.Gateway.MustRun("ip", "route", "flush", "proto", "107")
	assertRestored(t, l, before)
}

// sharedTUN gives a mount namespace a world-writable clone device, as udev sets
// it up.
const sharedTUN = `mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && `

func TestPersistentDeviceNeedsNoPrivilege(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "setpriv")
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	number := strconv.Itoa(unprivilegedID)
	script := sharedTUN + `exec setpriv --reuid ` + number + ` --regid ` + number + ` --clear-groups --bounding-set=-all "$0" run --config "$1" --prepared`
	start := func() *lab.Process {
		cmd := l.Gateway.Command(context.Background(), "sh", "-c", script, program.get(t).Path, site.Config)
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
		return l.Gateway.StartCommand(t, cmd)
	}

	without := start()
	if code, err := without.Wait(withTimeout(t, answerTime)); code != exitFailed || !strings.Contains(without.Log(), "ip tuntap add") {
		t.Errorf("without the device it ended with %d, %v, want %d and what to do:\n%s", code, err, exitFailed, without.Log())
	}

	l.Gateway.MustRun("ip", "tuntap", "add", "dev", lab.Tunnel, "mode", "tun", "user", number)
	l.Gateway.MustRun("ip", "link", "set", lab.Tunnel, "addrgenmode", "none", "up")
	l.Gateway.RouteProtected(lab.Tunnel)
	for range 2 { // it is there for the next, too
		gateway := start()
		ready(t, gateway)
		unprivileged(t, gateway.PID())
		assertReachable(t, l, all, s.Greeting)
		gateway.Signal(syscall.SIGTERM)
		if code, err := gateway.Wait(withTimeout(t, answerTime)); code != 0 || err != nil {
			t.Errorf("it ended with %d, %v", code, err)
		}
	}
	after := host(l)
	if !strings.Contains(after, lab.Tunnel) {
		t.Errorf("the device is gone:\n%s", after)
	}
	if strings.Contains(after, "blackhole 10.77") {
		t.Errorf("routes were made that are the operator's:\n%s", after)
	}
}

func TestDeviceDescriptorNeedsNoPrivilege(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	device := l.Gateway.PreparedDevice(lab.Tunnel)
	cmd := l.Gateway.Command(context.Background(), program.get(t).Path, "run", "--config", site.Config, "--tun-fd", "3")
	cmd.ExtraFiles = []*os.File{device} // the first is descriptor 3
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivilegedID, Gid: unprivilegedID}
	gateway := l.Gateway.StartCommand(t, cmd)
	if err := device.Close(); err != nil {
		t.Error(err)
	}
	ready(t, gateway)
	unprivileged(t, gateway.PID())
	assertReachable(t, l, all, s.Greeting)
}

func TestDeviceDescriptorMustBeDevice(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := l.Gateway.Command(withTimeout(t, answerTime), program.get(t).Path, "run", "--config", site.Config, "--tun-fd", "3")
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivilegedID, Gid: unprivilegedID}
	out, err := l.Gateway.RunCommand(cmd)
	if code := lab.ExitCode(err); code != exitFailed || !strings.Contains(out, "descriptor 3") {
		t.Errorf("it ended with %d, want %d and which descriptor:\n%s", code, exitFailed, out)
	}
}

// exitFailed is the exit code of other failures.
const exitFailed = 1

// ready waits until a gateway that was not started by its site admits packets.
func ready(t *testing.T, gateway *lab.Process) {
	t.Helper()
	if err := gateway.WaitLog(withTimeout(t, admitTime), func(log string) bool { return strings.Contains(log, "msg=ready") }); err != nil {
		t.Fatalf("%v\n%s", err, gateway.Log())
	}
}

func TestServiceManagerIsNotified(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	path := filepath.Join(filepath.Dir(site.Config), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := os.Chmod(path, 0o777); err != nil { // as systemd's is
		t.Fatal(err)
	}
	run := site.Run()
	cmd := l.Gateway.Command(context.Background(), run[0], run[1:]...)
	const watchdog = 500 * time.Millisecond
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	gateway := l.Gateway.StartCommand(t, cmd)

	hear := func(want string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(admitTime)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		for {
			n, err := socket.Read(b)
			if err != nil {
				t.Fatalf("not told %s: %v\n%s", want, err, gateway.Log())
			}
			if strings.HasPrefix(string(b[:n]), want) {
				return
			}
		}
	}
	hear("READY=1")
	for range 3 {
		hear("WATCHDOG=1")
	}
	gateway.Signal(syscall.SIGHUP)
	hear("RELOADING=1\nMONOTONIC_USEC=")
	hear("READY=1")
	gateway.Signal(syscall.SIGTERM)
	hear("STOPPING=1")
	if code, err := gateway.Wait(withTimeout(t, answerTime)); code != 0 || err != nil {
		t.Errorf("it ended with %d, %v", code, err)
	}
}

func TestSecondSIGTERMEndsGateway(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	site := l.NewSite(t, program.get(t), configuration(all...))
	gateway := site.Start(t)
	conn, err := all[2].enter(withTimeout(t, admitTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := question(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	gateway.Signal(syscall.SIGTERM)
	if err := gateway.WaitLog(withTimeout(t, admitTime), func(log string) bool { return strings.Contains(log, "msg=stopping") }); err != nil {
		t.Fatal(err)
	}
	const apart = 600 * time.Millisecond // signals that come closer together are one
	time.Sleep(apart)
	begin := time.Now()
	gateway.Signal(syscall.SIGTERM)
	<-gateway.Ended()
	const atOnce = 3 * time.Second // a drain takes five
	if took := time.Since(begin); took > atOnce {
		t.Errorf("it took %v", took)
	}
	assertBlackholed(t, l)
}
