package doctor

import (
	"context"
	"fmt"
)

const (
	// flowDescriptors is the number of descriptors of a flow: the connection to
	// its upstream.
	flowDescriptors = 1
	// spareDescriptors is for everything else.
	spareDescriptors = 64
)

// checkDescriptors checks that the process may open enough files for
// limits.flows.
func checkDescriptors(_ context.Context, c *checker) {
	limit, ok := query(c, c.host.Descriptors)
	if !ok {
		return
	}
	if need := uint64(c.Config.Limits.Flows)*flowDescriptors + spareDescriptors; limit < need {
		c.report(Warn, fmt.Sprintf("systemd: LimitNOFILE=%d; elsewhere ulimit -n %d; or lower limits.flows", need, need),
			"a process may have %d, and limits.flows is %d", limit, c.Config.Limits.Flows)
		return
	}
	c.ok("%d", limit)
}
