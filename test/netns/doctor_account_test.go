//go:build linux

package netns_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/knockgw/knockgw/internal/doctor"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// findings are all that doctor says about the account of the lab's gateways.
func findings(t *testing.T, site *lab.Site, args ...string) []doctor.Finding {
	t.Helper()
	out, err := site.Knockgw(withTimeout(t, admitTime), "doctor", append([]string{"-o", "json", "--as", strconv.Itoa(unprivilegedID), "--skip-upstreams"}, args...)...)
	if code := lab.ExitCode(err); code != 0 && code != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	var all struct{ Findings []doctor.Finding }
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return all.Findings
}

// failing is the first of the findings that is one, of a check or of any.
func failing(all []doctor.Finding, check string) *doctor.Finding {
	for i := range all {
		if all[i].Level == doctor.Fail && (check == "" || all[i].Check == check) {
			return &all[i]
		}
	}
	return nil
}

// What the account may not read or write is found with its own eyes, and what
// doctor says to type gives it to the account.
func TestDoctorFixesAccountPermissions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hurt  func(*testing.T, *lab.Site)
		check string
	}{
		"the configuration is root's":         {func(t *testing.T, s *lab.Site) { own(t, s.Config, 0) }, "configuration"},
		"its directory is closed to others":   {func(t *testing.T, s *lab.Site) { own(t, filepath.Dir(s.Config), 0) }, "configuration"},
		"the state is root's":                 {func(t *testing.T, s *lab.Site) { own(t, s.State, 0) }, "state.dir"},
		"an earlier run of root's left state": {func(t *testing.T, s *lab.Site) { own(t, write(t, s.State, "seen", "x"), 0) }, "state.dir"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, site, _, _ := site(t)
			if f := failing(findings(t, site), ""); f != nil {
				t.Fatalf("before: %+v", f)
			}
			c.hurt(t, site)
			f := failing(findings(t, site), c.check)
			if f == nil {
				t.Fatalf("nothing is found about %s: %+v", c.check, findings(t, site))
			}
			for range 3 { // a directory first, then what is in it
				if f == nil {
					break
				}
				l.Gateway.MustRun("sh", "-ec", f.Fix)
				f = failing(findings(t, site), "")
			}
			if f != nil {
				t.Errorf("after what it said was typed: %+v", f)
			}
			site.Start(t)
		})
	}
	t.Run("a file of secrets is root's", func(t *testing.T) {
		t.Parallel()
		_, site, _, _ := site(t)
		text, err := os.ReadFile(site.Config)
		if err != nil {
			t.Fatal(err)
		}
		key := write(t, filepath.Dir(site.Config), "zoe.key", "%s", "a secret of sixteen and more")
		site.Write(t, strings.Replace(string(text), "clients:\n", "clients:\n  - {id: zoe, secret_file: "+key+"}\n", 1))
		f := failing(findings(t, site), "secrets")
		if f == nil || !strings.Contains(f.Message, key) {
			t.Fatalf("it says %+v", findings(t, site))
		}
		own(t, key, unprivilegedID)
		if f := failing(findings(t, site), ""); f != nil {
			t.Errorf("then %+v", f)
		}
	})
}

// own gives a file to a user.
func own(t *testing.T, path string, user int) {
	t.Helper()
	if err := os.Chown(path, user, user); err != nil {
		t.Fatal(err)
	}
}

// From nothing, what doctor says to type is typed until it has nothing more to
// say; then the gateway runs on the device.
func TestDoctorLeadsToPersistentDevice(t *testing.T) {
	t.Parallel()
	l, site, s, all := site(t)
	var typed []string
	for range 8 {
		f := failing(findings(t, site, "--prepared"), "")
		if f == nil {
			break
		}
		typed = append(typed, f.Fix)
		l.Gateway.MustRun("sh", "-ec", f.Fix)
	}
	if f := failing(findings(t, site, "--prepared"), ""); f != nil || len(typed) == 0 {
		t.Fatalf("after %q there is %+v", typed, f)
	}
	args := append(site.Run()[1:], "--prepared")
	cmd := l.Gateway.Command(t.Context(), site.Run()[0], args...)
	g := l.Gateway.StartCommand(t, cmd)
	waitLog(t, g, admitTime, "msg=ready")
	assertReachable(t, l, all, s.Greeting)
	g.Signal(syscall.SIGTERM)
	if code, err := g.Wait(withTimeout(t, admitTime)); err != nil || code != 0 {
		t.Errorf("it ended with %d, %v", code, err)
	}
	// Nothing of it is knockgw's, and so down leaves it, and says whose it is.
	out, err := site.Knockgw(withTimeout(t, admitTime), "down")
	if err != nil || !strings.Contains(out, "0 routes removed") || !strings.Contains(out, "ip tuntap del dev knock0 mode tun") {
		t.Errorf("down says %v\n%s", err, out)
	}
	l.Gateway.MustRun("sh", "-ec", "ip tuntap del dev knock0 mode tun")
	out, err = site.Knockgw(withTimeout(t, admitTime), "down")
	if err != nil || strings.Contains(out, "tuntap") {
		t.Errorf("down says %v\n%s", err, out)
	}
}
