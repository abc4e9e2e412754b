//go:build linux

package netns_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	exitUsage         = 2
	exitNoTUN         = 69
	exitNotPermitted  = 77
	exitConfiguration = 78

	unprivilegedID = 65534
)

// host is everything about the gateway's machine that knockgw might touch.
func host(l *lab.Lab) string {
	var b strings.Builder
	for _, show := range [][]string{
		{"-details", "-oneline", "link", "show"}, {"-oneline", "addr", "show"},
		{"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"},
		{"rule", "show"}, {"-6", "rule", "show"},
	} {
		fmt.Fprintf(&b, "ip %s\n%s\n", strings.Join(show, " "), l.Gateway.MustRun("ip", show...))
	}
	for _, setting := range []string{"ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv6/conf/all/forwarding"} {
		fmt.Fprintf(&b, "%s %s\n", setting, l.Gateway.Setting(setting))
	}
	// What counts down is not a difference.
	return regexp.MustCompile(`expires \d+sec|valid_lft \w+|preferred_lft \w+`).ReplaceAllString(b.String(), "")
}

// changes is what has been added to the gateway's machine, or is gone from it,
// line by line.
func changes(l *lab.Lab, before string) []string {
	was, is := strings.Split(before, "\n"), strings.Split(host(l), "\n")
	var changed []string
	for _, line := range is {
		if !slices.Contains(was, line) {
			changed = append(changed, "+ "+line)
		}
	}
	for _, line := range was {
		if !slices.Contains(is, line) {
			changed = append(changed, "- "+line)
		}
	}
	return changed
}

// assertUnchanged fails the test if there are changes.
func assertUnchanged(t *testing.T, l *lab.Lab, before string) {
	t.Helper()
	if changed := changes(l, before); len(changed) > 0 {
		t.Errorf("the host was touched:\n%s", strings.Join(changed, "\n"))
	}
}

func TestRunWithInvalidConfigChangesNothing(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	good := configuration(endpoints("10.1.3.2:7000")...)
	duplicate := fmt.Sprintf("  - {id: bob, secret: %q, services: [bobs]}\n", bobSecret)
	for name, change := range map[string][2]string{
		"an unknown key":          {"window: 30s", "windows: 30s"},
		"a wrong type":            {"udp_port: 62201", "udp_port: [1, 2]"},
		"an overlapping service":  {"10.77.0.1:8002", "10.77.0.0/24:8001"},
		"a short secret":          {bobSecret, "short"},
		"a duplicate client":      {duplicate, duplicate + duplicate},
		"a route to the upstream": {"upstream: \"10.1.3.2:9\"", "upstream: \"10.77.0.5:9\""},
		"an unknown mode":         {"mode: knock-auth", "mode: magic"},
		"a port that is none":     {"10.77.0.200:9999", "10.77.0.200:99999"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, change[0], change[1], 1)
			if text == good {
				t.Fatalf("%q is not in the configuration", change[0])
			}
			site := l.NewSite(t, program.get(t), text)
			before := host(l)
			for _, command := range []string{"run", "check"} {
				out, err := site.Knockgw(withTimeout(t, answerTime), command)
				if code := lab.ExitCode(err); code != exitConfiguration {
					t.Errorf("%s ended with %d, want %d: %v\n%s", command, code, exitConfiguration, err, out)
				}
				where := regexp.MustCompile(regexp.QuoteMeta(site.Config) + `:\d+`)
				if line := strings.TrimSpace(out); strings.Contains(line, "\n") || !where.MatchString(line) {
					t.Errorf("%s said this, want one line that names file and line:\n%s", command, out)
				}
			}
			assertUnchanged(t, l, before)
			if left, err := os.ReadDir(site.State); err != nil || len(left) != 0 {
				t.Errorf("the state directory has %v, %v", left, err)
			}
		})
	}
}

func TestRunReportsMissingConfig(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	out, err := l.Gateway.Run(withTimeout(t, answerTime), program.get(t).Path, "run", "--config", missing)
	if code := lab.ExitCode(err); code != exitConfiguration || !strings.Contains(out, missing) {
		t.Errorf("a missing file ended with %d, want %d:\n%s", code, exitConfiguration, out)
	}
}

func TestRunReportsUnknownFlag(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	for _, args := range [][]string{{"run", "--no-such-flag"}, {"no-such-command"}} {
		out, err := l.Gateway.Run(withTimeout(t, answerTime), program.get(t).Path, args...)
		if code := lab.ExitCode(err); code != exitUsage {
			t.Errorf("%v ended with %d, want %d:\n%s", args, code, exitUsage, out)
		}
	}
}

func TestRunReportsMissingTUN(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	before := host(l)
	// A mount namespace of its own has no /dev/net in it; the machine's stays.
	script := `mount -t tmpfs none /dev/net && exec "$0" "$@"`
	cmd := l.Gateway.Command(withTimeout(t, answerTime), "sh", append([]string{"-c", script}, site.Run()...)...)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	out, err := l.Gateway.RunCommand(cmd)
	if code := lab.ExitCode(err); code != exitNoTUN || !strings.Contains(out, "/dev/net/tun") {
		t.Errorf("without TUN it ended with %d, want %d and the device's name:\n%s", code, exitNoTUN, out)
	}
	// A gateway that cannot run may leave its addresses silent, and nothing
	// else: the rule leads to their blackholes.
	const heldRule = "+ 0:\tnot from all iif lo lookup 108 proto 107"
	for _, line := range changes(l, before) {
		if !strings.HasPrefix(line, "+ blackhole ") && line != heldRule {
			t.Errorf("the host was touched: %s", line)
		}
	}
}

func TestRunReportsMissingPrivileges(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	site := l.NewSite(t, program.get(t), configuration(endpoints("10.1.3.2:7000")...))
	// He may read the configuration and write the state, so that nothing else
	// is in his way.
	for _, path := range []string{filepath.Dir(site.Config), site.Config, site.State} {
		if err := os.Chown(path, unprivilegedID, unprivilegedID); err != nil {
			t.Fatal(err)
		}
	}
	before := host(l)
	cmd := l.Gateway.Command(withTimeout(t, answerTime), program.get(t).Path, "run", "--config", site.Config)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivilegedID, Gid: unprivilegedID}
	out, err := l.Gateway.RunCommand(cmd)
	if code := lab.ExitCode(err); code != exitNotPermitted {
		t.Errorf("without the right it ended with %d, want %d:\n%s", code, exitNotPermitted, out)
	}
	assertUnchanged(t, l, before)
}
