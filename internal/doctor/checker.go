package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// An examination is one call of Examine.
type examination struct {
	Options
	host     *Host
	running  bool // a gateway with this configuration
	findings []Finding
}

// A checker is an examination as one check sees it: findings bear the check's
// name.
type checker struct {
	*examination
	check string
}

// named returns a checker whose findings bear another name.
func (c *checker) named(check string) *checker { return &checker{c.examination, check} }

// ok reports that nothing needs to be fixed.
func (c *checker) ok(message string, args ...any) {
	c.findings = append(c.findings, Finding{Check: c.check, Level: OK, Message: fmt.Sprintf(message, args...)})
}

// report reports a problem. The fix has no arguments.
func (c *checker) report(level Level, fix, message string, args ...any) {
	c.findings = append(c.findings, Finding{Check: c.check, Level: level, Message: fmt.Sprintf(message, args...), Fix: fix})
}

// failed reports that a query failed.
func (c *checker) failed(err error) {
	c.report(Warn, "look yourself, or ask again as root", "not checked: %v", err)
}

// skipped reports that this system cannot be queried.
func (c *checker) skipped() {
	c.report(Warn, "look yourself: see docs/host-modes.md", "not checked on %s", c.host.System)
}

// query calls a function of the host. If it returns no answer, query reports
// why.
func query[T any](c *checker, ask func() (T, error)) (answer T, ok bool) {
	if ask == nil {
		c.skipped()
		return answer, false
	}
	answer, err := ask()
	if err != nil {
		c.failed(err)
	}
	return answer, err == nil
}

// protectedFamilies reports which address families have protected addresses.
func (c *checker) protectedFamilies() (v4, v6 bool) {
	for _, r := range c.Config.TUN.Routes {
		v4, v6 = v4 || r.Addr().Is4(), v6 || r.Addr().Is6()
	}
	for _, p := range c.Config.TUN.Local {
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6()
	}
	return v4, v6
}

// setting returns the value of a numeric setting.
func (c *checker) setting(name string) (int, error) {
	text, err := c.host.Setting(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// externalLinks returns the interfaces that packets may arrive by: up, and
// neither the loopback interface nor the gateway's own.
func (c *checker) externalLinks() ([]Link, error) {
	links, err := c.host.Links()
	return slices.DeleteFunc(links, func(l Link) bool { return !l.Up || l.Loopback || l.Name == c.Config.TUN.Name }), err
}

// sysctlName returns an interface's name in the syntax of sysctl, quoted for a
// shell.
func sysctlName(name string) string { return termsafe.Shell(strings.ReplaceAll(name, ".", "/")) }

// restartFix makes the gateway install its routes and rules again.
const restartFix = "systemctl restart knockgw # or end it and start it again, where it is no service"
