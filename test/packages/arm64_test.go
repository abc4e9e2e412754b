//go:build linux

package packages

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/internal/testtool"
)

func TestARM64ProgramRuns(t *testing.T) {
	testtool.RequireLong(t, "builds for another architecture")
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("this machine has no qemu-aarch64-static")
	}
	dir := t.TempDir()
	if err := build(t, dir, "arm64"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", one(t, dir, "*-linux-arm64.tar.gz"), "-C", dir,
		"--strip-components=1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	example := filepath.Join(dir, "examples", "knockgw.yaml")
	for _, c := range []struct{ args, want string }{
		{"version", version},
		{"keygen --out " + filepath.Join(dir, "examples", "alice.key"), ""},
		{"check --config " + example, "10.77.0.1:22"},
		{"doctor --config " + example, "TUN device"}, // what it thinks of this machine is no matter
	} {
		out, err := exec.CommandContext(t.Context(), emulator, append([]string{filepath.Join(dir, "knockgw")}, strings.Fields(c.args)...)...).CombinedOutput()
		if err != nil && !strings.HasPrefix(c.args, "doctor") || !strings.Contains(string(out), c.want) {
			t.Errorf("knockgw %s: %v\n%s", c.args, err, out)
		}
	}
}
