package doctor

import (
	"context"
	"errors"
	"io/fs"
)

// tunDevice is opened to create a TUN interface.
const tunDevice = "/dev/net/tun"

// checkTUNDevice checks that TUN interfaces can be opened.
func checkTUNDevice(_ context.Context, c *checker) {
	if c.host.OpenTUN == nil {
		c.skipped()
		return
	}
	err := c.host.OpenTUN()
	if err == nil && c.Existing { // the account opens it, not root
		if ok, err := c.may(tunDevice, mayRead|mayWrite); err == nil && !ok {
			c.report(Fail, "chmod 0666 "+tunDevice, "%s cannot be opened by %s", tunDevice, c.Account.Name)
			return
		}
	}
	switch {
	case err == nil:
		c.ok("/dev/net/tun can be opened")
	case errors.Is(err, fs.ErrPermission):
		c.report(Fail, "chmod 0666 /dev/net/tun # or run as root; in a container, pass --device /dev/net/tun", "no permission to open /dev/net/tun")
	case errors.Is(err, fs.ErrNotExist):
		c.report(Fail, "modprobe tun # in a container, pass --device /dev/net/tun", "/dev/net/tun is missing")
	default:
		c.report(Fail, "modprobe tun", "/dev/net/tun cannot be opened: %v", err)
	}
}
