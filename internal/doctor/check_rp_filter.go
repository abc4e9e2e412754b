package doctor

import (
	"context"
	"fmt"
	"strings"
)

// rpFilterStrict drops packets whose source is reached by another interface
// (RFC 3704).
const rpFilterStrict = 1

// checkRPFilter checks for strict reverse-path filtering, which drops clients
// whose packets arrive by another interface than the one that answers would
// leave by.
func checkRPFilter(_ context.Context, c *checker) {
	if v4, _ := c.protectedFamilies(); !v4 || c.host.Setting == nil {
		return
	}
	links, err := c.externalLinks()
	if err != nil {
		c.failed(err)
		return
	}
	all, err := c.setting("ipv4/conf/all/rp_filter")
	if err != nil {
		c.failed(err)
		return
	}

	var names, commands []string
	for _, l := range links {
		if own, err := c.setting("ipv4/conf/" + l.Name + "/rp_filter"); err == nil && max(all, own) == rpFilterStrict {
			names = append(names, l.Name)
			commands = append(commands, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", sysctlName(l.Name)))
		}
	}
	if len(names) > 0 && len(links) > 1 {
		c.report(Warn, strings.Join(commands, " && ")+" # where the ways there and back differ",
			"strict on %s: clients whose answers would leave by another interface are dropped", strings.Join(names, ", "))
		return
	}
	c.ok("drops no clients")
}
