package doctor

import (
	"context"
	"strconv"
)

const (
	// flowMemory is the memory of an idle flow in bytes: docs/performance.md,
	// rounded up.
	flowMemory = 24 << 10
	mib        = 1 << 20
)

// checkMemory checks that the available memory suffices for limits.flows.
func checkMemory(_ context.Context, c *checker) {
	available, ok := query(c, c.host.Memory)
	if !ok {
		return
	}
	if need := uint64(c.Config.Limits.Flows) * flowMemory; available < need {
		c.report(Warn, "write limits: {flows: "+strconv.FormatUint(available/2/flowMemory, 10)+"}",
			"%d MiB available, and limits.flows, %d, may take up to %d MiB", available/mib, c.Config.Limits.Flows, need/mib)
		return
	}
	c.ok("%d MiB available", available/mib)
}
