package doctor

import (
	"context"
	"fmt"

	"github.com/knockgw/knockgw/packet"
)

// checkMTU checks that no interface has a larger MTU than the gateway's: the
// kernel would answer larger packets of unauthorized hosts.
func checkMTU(_ context.Context, c *checker) {
	if c.host.Links == nil {
		c.skipped()
		return
	}
	links, err := c.externalLinks()
	if err != nil {
		c.failed(err)
		return
	}
	for _, l := range links {
		if l.MTU > c.Config.TUN.MTU {
			c.report(Warn, fmt.Sprintf("write tun: {mtu: %d}", min(l.MTU, packet.MaxPacket)),
				"the MTU of %s is %d, and tun.mtu is %d: the kernel answers larger packets of unauthorized hosts (Packet Too Big)", l.Name, l.MTU, c.Config.TUN.MTU)
			return
		}
	}
	c.ok("no interface has an MTU larger than tun.mtu, %d", c.Config.TUN.MTU)
}
