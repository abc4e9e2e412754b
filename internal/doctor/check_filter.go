package doctor

import (
	"context"

	"github.com/knockgw/knockgw/config"
)

// The first version of Linux in which a process without CAP_BPF may access maps
// that it has open.
const openMapsMajor, openMapsMinor = 5, 19

// checkFilter checks that the kernel accepts the eBPF filter.
func checkFilter(_ context.Context, c *checker) {
	switch {
	case c.Config.TUN.Filter == config.FilterOff:
		c.ok("off, as tun.filter says")
	case c.host.LoadFilter == nil:
		c.skipped()
	default:
		if err := c.host.LoadFilter(); err != nil {
			c.report(filterLevel(c.Config), "grant CAP_BPF; where the kernel forbids it, write tun: {filter: off}", "not permitted: %v", err)
			return
		}
		if mapsRestricted(c) {
			c.report(Warn, "write tun: {filter: off}, or update the kernel, or sysctl -w kernel.unprivileged_bpf_disabled=0",
				"this kernel denies access to maps without CAP_BPF, which the gateway gives up: the filter's counters are unavailable, and after a reload it passes everything")
			return
		}
		c.ok("supported by the kernel")
	}
}

// mapsRestricted reports whether a process without CAP_BPF cannot access the
// maps that it has open: before 5.19, if the setting says so.
func mapsRestricted(c *checker) bool {
	if c.host.Kernel == nil || c.host.Setting == nil {
		return false
	}
	release, err := c.host.Kernel()
	if err != nil {
		return false
	}
	major, minor, err := parseRelease(release)
	if err != nil || major > openMapsMajor || major == openMapsMajor && minor >= openMapsMinor {
		return false
	}
	disabled, err := c.setting("../kernel/unprivileged_bpf_disabled")
	return err == nil && disabled != 0
}
