//go:build linux

package lab

import (
	"os"
	"os/exec"
	"testing"
)

const (
	// RequireVariable set to 1 turns every skip for want of a tool or of a privilege into a failure.
	RequireVariable = "KNOCKGW_REQUIRE_TOOLS"
	// ciVariable is set by continuous integration everywhere: there, a missing tool fails; privileges are
	// what the runner has, so for want of them a test is skipped with the reason.
	ciVariable = "CI"

	tunDevice = "/dev/net/tun"
)

// Require skips the test, saying why, where namespaces and TUN devices are not to be had.
func Require(tb testing.TB) {
	tb.Helper()
	lacking := func(format string, args ...any) {
		tb.Helper()
		if os.Getenv(RequireVariable) == "1" {
			tb.Fatalf(format, args...)
		}
		tb.Skipf(format, args...)
	}
	if os.Geteuid() != 0 {
		lacking("this test builds network namespaces and so needs root")
	}
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if err != nil {
		lacking("this test needs TUN devices: %v", err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	n, err := newNamespace()
	if err != nil {
		lacking("this test needs network namespaces: %v", err)
	}
	if err := n.close(); err != nil {
		tb.Fatal(err)
	}
}

// RequireTools skips the test where one of the programs is not installed, or fails it where the environment
// promises them all.
func RequireTools(tb testing.TB, names ...string) {
	tb.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv(RequireVariable) == "1" || os.Getenv(ciVariable) != "" {
			tb.Fatalf("%s is not installed", name)
		}
		tb.Skipf("%s is not installed", name)
	}
}
