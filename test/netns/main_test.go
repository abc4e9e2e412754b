//go:build linux

// Package netns_test is knockgw as it is used: the built program between real
// kernels in network namespaces, used by its clients and by attackers'
// tools. See package netlab for a drawing of the network.
//
// It needs root and TUN devices, and single tests need nmap; missing ones are
// said in the skip. With CI set or KNOCKGW_REQUIRE_TOOLS=1, a missing tool
// fails.
package netns_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// built is the program under test, built when the first test needs it.
type built struct {
	once  sync.Once
	build *lab.Build
	err   error
}

var program built

func (b *built) get(tb testing.TB) *lab.Build {
	tb.Helper()
	b.once.Do(func() { b.build, b.err = lab.NewBuild() })
	if b.err != nil {
		tb.Fatal(b.err)
	}
	return b.build
}

// home is the network namespace of the test itself, read while every thread is
// at home.
var home string

func TestMain(m *testing.M) {
	if name := os.Getenv(taskVariable); name != "" {
		os.Exit(doTask(name))
	}
	var err error
	if home, err = os.Readlink("/proc/self/ns/net"); err != nil {
		fmt.Fprintln(os.Stderr, "find the test's own namespace:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := program.build.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, "remove what was built:", err)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "the tests left goroutines behind:", err)
		code = 1
	}
	os.Exit(code)
}
