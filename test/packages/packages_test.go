//go:build linux

package packages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestPackagesAreReproducible(t *testing.T) {
	first := packages.get(t)
	second := t.TempDir()
	if err := build(t, second, "amd64"); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(first)
	if err != nil || len(files) != 3 {
		t.Fatalf("there are %v, %v; want a deb, an rpm and a tarball", files, err)
	}
	for _, f := range files {
		a, err := os.ReadFile(filepath.Join(first, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is another the second time", f.Name())
		}
	}
}

func TestUnitsAreValid(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd-analyze")
	}
	// What systemd of some releases that we support does not know, and ignores;
	// the program is not installed here.
	later := regexp.MustCompile(`notify-reload|RestartSteps|RestartMaxDelaySec|is not executable`)
	for _, name := range []string{"knockgw.service", "knockgw-hold.service"} {
		unit := filepath.Join(root, "deploy/systemd", name)
		out, _ := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, name) && !later.MatchString(line) {
				t.Errorf("systemd says: %s", line)
			}
		}

		const maxExposure = 2.0 // of 10; what is left is what the gateway is for: the network, TUN, the filter
		out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", unit).CombinedOutput()
		found := regexp.MustCompile(`exposure level for \S+ ([0-9.]+)`).FindSubmatch(out)
		if found == nil {
			t.Skipf("this systemd-analyze does not judge files: %v\n%s", err, out)
		}
		if level, err := strconv.ParseFloat(string(found[1]), 64); err != nil || level > maxExposure {
			t.Errorf("the unit is more exposed than %v:\n%s", maxExposure, out)
		}
	}
}
