package doctor

import "context"

// checkClock checks that the clock is synchronized: knocks bear the time.
func checkClock(_ context.Context, c *checker) {
	synced, ok := query(c, c.host.ClockSynced)
	switch {
	case !ok:
	case !synced:
		c.report(Warn, "timedatectl set-ntp true # or run chrony", "not synchronized; knocks whose time differs by %v are rejected", c.Config.Knock.Window)
	default:
		c.ok("synchronized")
	}
}
