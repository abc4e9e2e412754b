package doctor

import "context"

// checkTimeZones checks that time zones can be loaded, for clients[].hours.
func checkTimeZones(_ context.Context, c *checker) {
	const example = "Europe/Berlin"
	if c.host.LoadZone == nil {
		c.skipped()
		return
	}
	if err := c.host.LoadZone(example); err != nil {
		c.report(Warn, "apt install tzdata", "%v: clients[].hours can have no zone", err)
		return
	}
	c.ok("installed")
}
