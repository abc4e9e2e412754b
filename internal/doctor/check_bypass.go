package doctor

import (
	"context"
	"strings"

	"github.com/knockgw/knockgw/internal/bypass"
)

// checkBypass reports the rules, routes and addresses that let packets from
// outside bypass the gateway. Settings have checks of their own.
func checkBypass(_ context.Context, c *checker) {
	if c.Existing && !c.running {
		return // the operator may add its routes later
	}
	if c.host.Bypass == nil {
		c.skipped()
		return
	}
	problems, ok := query(c, func() ([]bypass.Problem, error) { return c.host.Bypass(c.running) })
	if !ok {
		return
	}

	before := len(c.findings)
	for _, p := range problems {
		if strings.HasPrefix(p.Message, "forwarding is off (") {
			continue
		}
		level := Fail
		if p.Severity == bypass.Unknown {
			level = Warn
		}
		c.report(level, p.Remedy, "%s: %s", p.Subject, p.Message)
	}
	if len(c.findings) == before {
		c.ok("no rule, route or address of this host lets packets bypass the gateway; other hosts cannot be checked from here")
	}
}
