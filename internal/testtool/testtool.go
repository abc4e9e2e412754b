// Package testtool finds the external programs that tests run.
package testtool

import (
	"os"
	"os/exec"
	"testing"
)

const (
	// RequireVariable names the environment variable that, set to 1, turns each
	// skip for lack of a tool or of a privilege into a failure.
	RequireVariable = "KNOCKGW_REQUIRE_TOOLS"

	// ciVariable is set by every continuous integration service. There, the
	// tools that make test installs are present, or their installation has
	// failed.
	ciVariable = "CI"
)

// Required reports whether a test that lacks a tool fails instead of being
// skipped.
func Required() bool { return os.Getenv(RequireVariable) == "1" || os.Getenv(ciVariable) != "" }

// Require returns the paths of programs in PATH. If one is missing, it skips the
// test, or fails it if tools are required. The Makefile installs the programs:
// list them in its variable TOOLS.
func Require(tb testing.TB, names ...string) []string {
	tb.Helper()
	paths := make([]string, len(names))
	for i, name := range names {
		path, err := exec.LookPath(name)
		switch {
		case err == nil:
			paths[i] = path
		case Required():
			tb.Fatalf("%s is not installed", name)
		default:
			tb.Skipf("%s is not installed", name)
		}
	}
	return paths
}
