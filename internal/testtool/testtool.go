// Package testtool finds the programs that tests run besides ourselves.
package testtool

import (
	"os"
	"os/exec"
	"testing"
)

const (
	// RequireVariable set to 1 turns every skip for want of a tool or of a privilege into a failure.
	RequireVariable = "KNOCKGW_REQUIRE_TOOLS"
	// ciVariable is set by continuous integration everywhere. What make test installs is there, or has failed
	// to be installed.
	ciVariable = "CI"
)

// Required tells whether a test fails for want of a tool, rather than skips.
func Required() bool { return os.Getenv(RequireVariable) == "1" || os.Getenv(ciVariable) != "" }

// Need returns the paths of programs in PATH. Where one is missing it skips the test, or fails it if tools
// are required, and says which. The Makefile installs them: name them in its TOOLS.
func Need(tb testing.TB, names ...string) []string {
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
