//go:build linux

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// podmanVariable has the image built and run by podman.
const podmanVariable = "KNOCKGW_PODMAN"

func TestPodmanCommandAsDocumented(t *testing.T) {
	if os.Getenv(podmanVariable) == "" {
		t.Skip("builds and runs an image: " + podmanVariable + "=1 go test ./test/packages")
	}
	for _, tool := range []string{"podman", "buildah", "socat"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is set and this machine has no %s", podmanVariable, tool)
		}
	}
	document, err := os.ReadFile(filepath.Join(root, "docs/install.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^    podman run(.*\\\n)+.*$`).FindString(string(document))
	if command == "" {
		t.Fatal("docs/install.md has no command that begins with podman run")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", one(t, packages.get(t), "*.tar.gz"),
		"-C", dir, "--strip-components=1", "--wildcards", "*/knockgw").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "testdata/podman.sh", filepath.Join(dir, "podman"), filepath.Join(dir, "knockgw"),
		filepath.Join(root, "deploy/container/Containerfile"), filepath.Join(root, "deploy/examples/knockgw.yaml"),
		strings.Join(strings.Fields(strings.ReplaceAll(command, "\\\n", " ")), " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "\nall is well\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
