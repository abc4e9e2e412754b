package doctor

import (
	"context"
	"fmt"
)

// The first version of Linux that supports the filter's programs.
const filterMajor, filterMinor = 5, 15

// checkSystem checks the operating system and its version.
func checkSystem(_ context.Context, c *checker) {
	if c.host.Kernel == nil {
		c.report(Warn, "set routes by hand: see docs/host-modes.md", "%s is untested, and most is not checked there", c.host.System)
		return
	}
	release, ok := query(c, c.host.Kernel)
	if !ok {
		return
	}
	major, minor, err := parseRelease(release)
	if err != nil {
		c.failed(err)
		return
	}
	if major < filterMajor || major == filterMajor && minor < filterMinor {
		c.report(Warn, "update the kernel", "Linux %s is older than %d.%d: packets are dropped in user space only", release, filterMajor, filterMinor)
		return
	}
	c.ok("Linux %s", release)
}

// parseRelease parses the release of a kernel.
func parseRelease(release string) (major, minor int, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("unknown kernel version %q", release)
	}
	return major, minor, nil
}
