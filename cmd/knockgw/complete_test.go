package main

import (
	"errors"
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

func TestErrorsAreSpokenWithoutThePackagesTheyAreFrom(t *testing.T) {
	for text, want := range map[string]string{
		"--method x: protocol: unknown method; choose udp":                                  "--method x: unknown method; choose udp",
		"protocol: unknown method":                                                          "unknown method",
		"a.yaml:3: services[0].auth.protocol: must be v1":                                   "a.yaml:3: services[0].auth.protocol: must be v1",
		`invalid argument "x" for "-c" flag: strconv.ParseInt: parsing "x": invalid syntax`: `invalid argument "x" for "-c" flag: invalid syntax`,
	} {
		if got := spoken(errors.New(text)); got != want {
			t.Errorf("%s: %s", text, got)
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
