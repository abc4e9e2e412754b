package doctor

import (
	"context"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkAccount checks that the account exists that the gateway switches to.
func checkAccount(_ context.Context, c *checker) {
	switch {
	case c.MissingAccount != "":
		c.report(Fail, "useradd --system --user-group --shell /usr/sbin/nologin "+termsafe.Shell(c.MissingAccount),
			"there is no account %s, which knockgw run switches to when root starts it", c.MissingAccount)
	case c.Account.UID == 0:
		c.ok("%s", "root")
	default:
		c.ok("%s, %d", c.Account.Name, c.Account.UID)
	}
}
