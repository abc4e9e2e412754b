//go:build linux

package packages

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/knockgw/knockgw/internal/testtool"
)

// root is the checkout, from here.
const root = "../.."

// version is that of the packages under test.
const version = "1.2.3"

// built is a directory with packages for this machine, built when the first
// test needs it.
type built struct {
	once sync.Once
	dir  string
	err  error
}

var packages built

func TestMain(m *testing.M) {
	code := m.Run()
	if packages.dir != "" {
		if err := os.RemoveAll(packages.dir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the packages:", err)
		}
	}
	os.Exit(code)
}

func (b *built) get(t *testing.T) string {
	t.Helper()
	testtool.RequireLong(t, "builds packages")
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "knockgw-packages-"); b.err == nil {
			b.err = errors.New("they were not built for the test before") // which says why
			b.err = build(t, b.dir, "amd64")
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

// build builds packages for an architecture into dir.
func build(t *testing.T, dir, arch string) error {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, ".git")); errors.Is(err, os.ErrNotExist) {
		t.Skip("not a checkout, which says when its packages are of")
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "deploy/packages/build.sh"), dir, version, arch).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitNoPackager && os.Getenv("CI") == "":
		t.Skipf("the packager cannot be had here:\n%s", out)
	case err != nil:
		return fmt.Errorf("build packages: %w\n%s", err, out)
	}
	return nil
}

// exitNoPackager is the code of build.sh where what makes packages cannot be
// had.
const exitNoPackager = 87

// one returns the one file in dir that a pattern names.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v; want one", pattern, dir, found, err)
	}
	return found[0]
}
