package doctor

import "context"

// checkNetworkManager warns of a network manager that removes the routes and
// rules of other programs.
func checkNetworkManager(_ context.Context, c *checker) {
	if c.host.ForeignRouteCleanup == nil || c.Existing {
		return
	}
	manager, err := c.host.ForeignRouteCleanup()
	switch {
	case err != nil:
		c.failed(err)
	case manager != "":
		c.report(Warn, `mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n' >/etc/systemd/networkd.conf.d/knockgw.conf && systemctl restart systemd-networkd`,
			"%s removes the routes and rules of other programs when it restarts, including knockgw's", manager)
	default:
		c.ok("no known network manager removes the routes and rules of other programs")
	}
}
