package testtool

import (
	"os"
	"testing"
)

// LongVariable names the environment variable that, set to 1, has long tests run
// at full length. `make test-long` sets it, and runs the tests that call Long or
// RequireLong.
const LongVariable = "KNOCKGW_LONG"

// Long reports whether a test that has a short and a long form runs the long
// one.
func Long() bool { return os.Getenv(LongVariable) == "1" }

// RequireLong skips a test that takes long unless long tests run. The reason
// completes "this test".
func RequireLong(tb testing.TB, reason string) {
	tb.Helper()
	if !Long() {
		tb.Skipf("runs in make test-long: this test %s", reason)
	}
}
