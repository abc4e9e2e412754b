package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkExistingDevice checks an interface that the operator has created for the
// gateway.
func checkExistingDevice(_ context.Context, c *checker) {
	name := c.Config.TUN.Name
	if !c.Existing || c.host.Interface == nil {
		return
	}
	if len(c.Config.TUN.Local) > 0 {
		c.report(Fail, "take tun.local out, or start without --prepared", "a prepared device hides no ports of the host (tun.local)")
	}

	quoted := termsafe.Shell(name)
	create := fmt.Sprintf("ip tuntap add dev %s mode tun user %s && ip link set %[1]s mtu %[3]d up", quoted, termsafe.Shell(c.Account.Name), c.Config.TUN.MTU)
	i, err := c.host.Interface(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.report(Fail, create, "there is no interface %s", name)
	case err != nil:
		c.failed(err)
	case !i.TUN:
		c.report(Fail, fmt.Sprintf("ip link del %s && %s", quoted, create), "%s is not a TUN interface, or one of another kind", name)
	case i.Owner != c.Account.UID:
		c.report(Fail, fmt.Sprintf("ip tuntap del dev %s mode tun && %s # and its routes: docs/install.md", quoted, create),
			"%s does not belong to %s (owner %d)", name, c.Account.Name, i.Owner)
	case !i.Up:
		c.report(Fail, "ip link set "+quoted+" up", "%s is down", name)
	default:
		c.ok("%s exists and belongs to %s", name, c.Account.Name)
	}
}
