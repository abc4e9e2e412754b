package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// checkForwarding checks that the host forwards packets from outside.
func checkForwarding(_ context.Context, c *checker) {
	if c.host.Setting == nil {
		c.skipped()
		return
	}
	v4, v6 := c.protectedFamilies()
	if v4 {
		checkForwarding4(c.named(c.check + " IPv4"))
	}
	if v6 {
		checkForwarding6(c.named(c.check + " IPv6"))
	}
}

// checkForwarding4 requires forwarding on the interfaces that packets arrive by;
// ip_forward sets it on all.
func checkForwarding4(c *checker) {
	all, err := c.setting("ipv4/ip_forward")
	if err != nil {
		c.failed(err)
		return
	}
	if all != 0 {
		c.ok("on")
		return
	}
	links, err := c.externalLinks()
	if err != nil {
		c.failed(err)
		return
	}

	var names []string
	for _, l := range links {
		if on, err := c.setting("ipv4/conf/" + l.Name + "/forwarding"); err == nil && on != 0 {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		c.report(Fail, "sysctl -w net.ipv4.ip_forward=1 # or net.ipv4.conf.IFACE.forwarding=1, of the interface that clients come from",
			"off: packets for the protected addresses are dropped")
		return
	}
	c.ok("on for %s", strings.Join(names, ", "))
}

func checkForwarding6(c *checker) {
	on, err := c.setting("ipv6/conf/all/forwarding")
	switch {
	case errors.Is(err, fs.ErrNotExist): // reported by checkIPv6
	case err != nil:
		c.failed(err)
	case on == 0:
		c.report(Fail, "sysctl -w net.ipv6.conf.all.forwarding=1"+acceptRAFix(c),
			"off: packets for the protected addresses are dropped")
	default:
		c.ok("on")
	}
}

// acceptRAFix returns the commands that keep interfaces learning routes from
// router advertisements, which a host that forwards packets does not do by
// default.
func acceptRAFix(c *checker) string {
	if c.host.Links == nil {
		return ""
	}
	links, err := c.externalLinks()
	if err != nil {
		return ""
	}
	commands := ""
	for _, l := range links {
		if on, err := c.setting("ipv6/conf/" + l.Name + "/accept_ra"); err == nil && on == 1 {
			commands += fmt.Sprintf(" && sysctl -w net.ipv6.conf.%s.accept_ra=2", sysctlName(l.Name))
		}
	}
	return commands
}
