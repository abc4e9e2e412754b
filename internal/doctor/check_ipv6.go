package doctor

import (
	"context"
	"errors"
	"io/fs"
)

// checkIPv6 checks that IPv6 is enabled if the configuration protects IPv6
// addresses.
func checkIPv6(_ context.Context, c *checker) {
	if _, v6 := c.protectedFamilies(); !v6 || c.host.Setting == nil {
		return
	}
	off, err := c.setting("ipv6/conf/all/disable_ipv6")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.report(Fail, "boot without ipv6.disable=1, or remove the IPv6 entries of tun", "the kernel has no IPv6, and the configuration protects IPv6 addresses")
	case err != nil:
		c.failed(err)
	case off != 0:
		c.report(Fail, "sysctl -w net.ipv6.conf.all.disable_ipv6=0", "disabled, and the configuration protects IPv6 addresses")
	default:
		c.ok("enabled")
	}
}
