//go:build linux

package lab

import (
	"os"
	"testing"

	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/internal/testtool"
)

// Require skips the test, saying why, where namespaces and TUN devices are not
// to be had. Privileges are what the machine gives: for want of them a test
// fails only where testtool.RequireVariable is 1.
func Require(tb testing.TB) {
	tb.Helper()
	lacking := func(format string, args ...any) {
		tb.Helper()
		if os.Getenv(testtool.RequireVariable) == "1" {
			tb.Fatalf(format, args...)
		}
		tb.Skipf(format, args...)
	}

	if os.Geteuid() != 0 {
		lacking("this test builds network namespaces and so needs root")
	}
	f, err := os.OpenFile(netlab.TUNDevice, os.O_RDWR, 0)
	if err != nil {
		lacking("this test needs TUN devices: %v", err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}

	n, err := netlab.NewNamespace()
	if err != nil {
		lacking("this test needs network namespaces: %v", err)
	}
	if err := n.Close(); err != nil {
		tb.Fatal(err)
	}
}

// RequireTools skips or fails the test where one of the programs is not
// installed.
func RequireTools(tb testing.TB, names ...string) {
	tb.Helper()
	testtool.Require(tb, names...)
}
