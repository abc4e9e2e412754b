//go:build linux

package netns_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/knockgw/knockgw/internal/doctor"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// diagnosis returns what doctor finds on the gateway, by check; those of what
// is the machine's, not the lab's, are left out.
func diagnosis(t *testing.T, site *lab.Site, wantCode int, args ...string) map[string]doctor.Finding {
	t.Helper()
	out, err := site.Knockgw(withTimeout(t, admitTime), "doctor", append([]string{"-o", "json", "--as", "root"}, args...)...)
	if code := lab.ExitCode(err); code != wantCode {
		t.Errorf("doctor ended with %d (%v), want %d\n%s", code, err, wantCode, out)
	}
	var all struct{ Findings []doctor.Finding }
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := make(map[string]doctor.Finding)
	for _, f := range all.Findings {
		if before, ok := found[f.Check]; !ok || before.Level == doctor.OK {
			found[f.Check] = f
		}
	}
	for _, machines := range []string{"system", "clock", "time zones", "descriptors", "memory"} {
		if _, ok := found[machines]; !ok {
			t.Errorf("%s was not looked at", machines)
		}
		delete(found, machines)
	}
	return found
}

// assertHealthy fails the test if doctor finds anything but Bob's service,
// which has no upstream.
func assertHealthy(t *testing.T, site *lab.Site, when string) {
	t.Helper()
	for _, f := range diagnosis(t, site, 0) {
		if f.Level != doctor.OK && f.Check != "upstream of bobs" {
			t.Errorf("%s: %+v", when, f)
		}
	}
}

func TestDoctorPassesHealthyHost(t *testing.T) {
	t.Parallel()
	l, site, _, _ := site(t)
	before := host(l)
	assertHealthy(t, site, "before the first start")
	assertUnchanged(t, l, before)
	gateway := site.Start(t)
	assertHealthy(t, site, "while the gateway runs")
	gateway.Kill()
	assertHealthy(t, site, "after a crash")
}

func TestDoctorPassesHostWithHiddenPorts(t *testing.T) {
	t.Parallel()
	l, site, _, _, _ := newHostPorts(t)
	before := host(l)
	assertHealthy(t, site, "before the first start")
	assertUnchanged(t, l, before)
	site.Start(t)
	assertHealthy(t, site, "while the gateway runs")
	l.Gateway.MustRun("ip", "rule", "add", "pref", "0", "lookup", "local")
	assertHealthy(t, site, "while another rule comes after the gateway's")
}

func TestDoctorReportsBrokenHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hurt  func(*testing.T, *lab.Lab, *lab.Site)
		check string
		level doctor.Level
		mend  string
	}{
		"forwarding is off": {func(_ *testing.T, l *lab.Lab, _ *lab.Site) { l.Gateway.Sysctl("ipv4/ip_forward", "0") },
			"forwarding IPv4", doctor.Fail, "sysctl -w net.ipv4.ip_forward=1"},
		"forwarding of IPv6 is off": {func(_ *testing.T, l *lab.Lab, _ *lab.Site) { l.Gateway.Sysctl("ipv6/conf/all/forwarding", "0") },
			"forwarding IPv6", doctor.Fail, "sysctl -w net.ipv6.conf.all.forwarding=1"},
		"IPv6 is disabled": {func(_ *testing.T, l *lab.Lab, _ *lab.Site) { l.Gateway.Sysctl("ipv6/conf/all/disable_ipv6", "1") },
			"IPv6", doctor.Fail, "sysctl -w net.ipv6.conf.all.disable_ipv6=0"},
		"the upstream's route leads into the device": {func(t *testing.T, l *lab.Lab, s *lab.Site) {
			s.Start(t)
			l.Gateway.MustRun("ip", "route", "add", "10.1.3.2/32", "dev", lab.Tunnel)
		}, "upstream of auth-v4", doctor.Fail, "ip route add 10.1.3.2/32"},
		"a protected address is on an interface": {func(_ *testing.T, l *lab.Lab, _ *lab.Site) {
			l.Gateway.MustRun("ip", "addr", "add", "10.77.0.1/32", "dev", "lo")
		}, "routes", doctor.Fail, "ip addr del 10.77.0.1/32 dev lo"},
		"a link takes larger packets": {func(_ *testing.T, l *lab.Lab, _ *lab.Site) {
			l.Gateway.MustRun("ip", "link", "set", "client0", "mtu", "9000")
		}, "MTU", doctor.Warn, "mtu: 9000"},
		"sources are filtered strictly": {func(_ *testing.T, l *lab.Lab, _ *lab.Site) { l.Gateway.Sysctl("ipv4/conf/all/rp_filter", "1") },
			"rp_filter", doctor.Warn, "sysctl -w net.ipv4.conf.client0.rp_filter=2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, _, _ := site(t)
			c.hurt(t, l, site)
			code := 0
			if c.level == doctor.Fail {
				code = 1
			}
			if f := diagnosis(t, site, code)[c.check]; f.Level != c.level || !strings.Contains(f.Fix, c.mend) {
				t.Errorf("of %s it says %+v, want %s and %q", c.check, f, c.level, c.mend)
			}
		})
	}
	t.Run("without privileges", func(t *testing.T) {
		t.Parallel()
		l, site, _, _ := site(t)
		for _, path := range []string{filepath.Dir(site.Config), site.Config, site.State} {
			if err := os.Chown(path, unprivilegedID, unprivilegedID); err != nil {
				t.Fatal(err)
			}
		}
		out := asUnprivileged(t, l, site)
		for _, want := range []string{"fail  privileges: no CAP_NET_ADMIN", "-> run as root, or grant CAP_NET_ADMIN", "ok    state.dir"} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
	})
	t.Run("a port of the host that is taken", func(t *testing.T) {
		t.Parallel()
		l, site, _, _, all := newHostPorts(t)
		l.Gateway.Listen("tcp", all[0].listen.String())
		if f := diagnosis(t, site, 1)["host ports"]; f.Level != doctor.Fail || !strings.Contains(f.Fix, "127.0.0.1:22") {
			t.Errorf("it says %+v", f)
		}
	})
}

// asUnprivileged returns what doctor reports to an account without privileges.
func asUnprivileged(t *testing.T, l *lab.Lab, site *lab.Site) string {
	t.Helper()
	cmd := l.Gateway.Command(withTimeout(t, admitTime), program.get(t).Path, "doctor", "--config", site.Config)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivilegedID, Gid: unprivilegedID}
	out, err := l.Gateway.RunCommand(cmd)
	if code := lab.ExitCode(err); code != 1 {
		t.Errorf("doctor ended with %d, %v", code, err)
	}
	return out
}

func TestDoctorReportsMissingTUN(t *testing.T) {
	t.Parallel()
	l, site, _, _ := site(t)
	cmd := l.Gateway.Command(withTimeout(t, admitTime), "sh", "-c", `mount -t tmpfs none /dev/net && exec "$0" doctor --config "$1"`,
		program.get(t).Path, site.Config)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	out, err := l.Gateway.RunCommand(cmd)
	if lab.ExitCode(err) != 1 || !strings.Contains(out, "fail  TUN device: /dev/net/tun is missing\n      -> modprobe tun") {
		t.Errorf("doctor ended with %v\n%s", err, out)
	}
}
