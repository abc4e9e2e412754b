//go:build linux

package netns_test

import (
	"testing"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// A middlebox takes the timestamps out of everything after the SYN.
func TestClientsGetInWhereTimestampsAreStripped(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nft")
	l, site, s, all := site(t)
	site.Start(t)
	for _, command := range [][]string{
		{"add", "table", "inet", "middlebox"},
		{"add", "chain", "inet", "middlebox", "out", "{ type filter hook output priority 0 ; }"},
		{"add", "rule", "inet", "middlebox", "out", "tcp flags & (syn|rst) == 0 reset tcp option timestamp"},
	} {
		l.Client.MustRun("nft", command...)
	}
	for _, d := range all {
		if err := d.visit(t.Context(), alice(l.Client), s.Greeting); err != nil {
			t.Error(err)
		}
	}
}
