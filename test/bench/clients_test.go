//go:build linux

package bench_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// filterOff is the line of a configuration's section tun by which all that
// attackers send reaches the process.
const filterOff = "  filter: off\n"

// knocker is the client of a number among many.
func knocker(h *lab.Host, n int) lab.Peer {
	return lab.Peer{Host: h, ID: fmt.Sprintf("client-%d", n), KnockPort: knockPort,
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
