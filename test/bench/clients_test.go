//go:build linux

package bench_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// asked skips the test unless measurements are asked for.
func asked(t *testing.T) {
	t.Helper()
	if os.Getenv(benchVariable) != "1" {
		t.Skipf("set %s=1 to measure", benchVariable)
	}
}

// program builds knockgw for one measurement.
func program(t *testing.T) *lab.Build {
	t.Helper()
	build, err := lab.NewBuild()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := build.Remove(); err != nil {
			t.Error(err)
		}
	})
	return build
}

// knocker is the client of a number among many.
func knocker(h *lab.Host, n int) lab.Visitor {
	return lab.Visitor{Host: h, ID: fmt.Sprintf("client-%d", n), KnockPort: knockPort,
		Secret: fmt.Appendf(nil, "the secret of client %d", n)}
}

// manyClients is the clients' part of a configuration.
func manyClients(n int) string {
	var b strings.Builder
	b.WriteString("clients:\n")
	for i := range n {
		v := knocker(nil, i)
		fmt.Fprintf(&b, "  - {id: %s, secret: %q}\n", v.ID, v.Secret)
	}
	return b.String()
}

// A hidden service of the gateways here, by the methods that it takes.
func service(name string, at netip.AddrPort, upstream, methods string) string {
	return fmt.Sprintf("  - {name: %s, listen: %q, upstream: %q, mode: knock-auth, knock: [%s]}\n", name, at, upstream,
		methods)
}
