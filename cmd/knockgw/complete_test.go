package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheShellOffersNames(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"), g.profile("home", "echo"), g.profile("work", "ssh"))
	config := filepath.Join(t.TempDir(), "knockgw.yaml")
	text := "version: 1\ntun: {routes: [10.77.0.0/24]}\nclients: [{id: bob, secret: \"" + aliceSecret + "\"}]\n" +
		"services: [{name: web, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, want string }{
		{"connect ", "home/echo lab/echo ssh work/ssh"},
		{"ping ssh ", ""},
		{"proxy --profile ", "home lab work"},
		{"client rotate --config " + config + " ", "bob"},
		{"client add x --config " + config + " --service ", "web"},
		{"revoke --config " + config + " --client ", "bob"},
		{"revoke --config none.yaml --client ", ""},
	} {
		out, _, err := perform(t, nil, append([]string{"__complete"}, strings.Split(c.line, " ")...)...)
		offer, _, _ := strings.Cut(out, ":")
		if got := strings.Join(strings.Fields(offer), " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.line, got, err, c.want)
		}
	}
}

func TestTheVersionIsAFlagToo(t *testing.T) {
	if out, _, err := perform(t, nil, "--version"); err != nil || !strings.HasPrefix(out, "knockgw ") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAnArgumentThatIsMissingIsNamed(t *testing.T) {
	for _, c := range [][]string{{"connect", "TARGET is missing"}, {"explain", "CAPTURE is missing"}, {"client", "remove", "ID is missing"}} {
		_, _, err := perform(t, nil, c[:len(c)-1]...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c[len(c)-1]) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestATargetOfSeveralProfilesIsAUsageError(t *testing.T) {
	g := newGate(t, echo)
	dir := profiles(t, g.profile("lab", "echo"), g.profile("home", "echo"), g.profile("work", "ssh"))
	if _, _, err := perform(t, nil, "knock", "echo"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "choose home/echo or lab/echo") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(string(dir), "bad.yaml"), []byte("bad: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, err := perform(t, nil, "knock", "ssh", "-q"); err != nil || len(out) != 33 || !strings.Contains(errs, "work/ssh is taken; a profile that cannot be read") {
		t.Errorf("%q %q %v", out, errs, err)
	}
	if _, _, err := perform(t, nil, "connect", "ssh", "--buckets", "100"); exitCode(err) != exitUsage {
		t.Errorf("%v", err)
	}
}
