package routing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxDrain is how many changes are forgotten at once at most: while a whole routing table is
// filled they come as fast as they are read.
const maxDrain = 4096

// RouteMonitor hears from the kernel that something about interfaces, addresses, routes,
// next hops, rules or forwarding has changed. What it was has to be asked: the kernel says nothing of
// routes that go with their interface. It takes no privilege.
type RouteMonitor struct{ file *os.File }

// changeGroups are what is listened to, a bit for each of the groups of rtnetlink(7).
const changeGroups = 1<<(unix.RTNLGRP_LINK-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) |
	1<<(unix.RTNLGRP_IPV4_NETCONF-1) | 1<<(unix.RTNLGRP_IPV6_NETCONF-1) | 1<<(unix.RTNLGRP_NEXTHOP-1) |
	1<<(unix.RTNLGRP_IPV6_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// NewRouteMonitor begins to listen: what changes from its return on is heard by Wait.
func NewRouteMonitor() (*RouteMonitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("listen for changes of routes: %w", os.NewSyscallError("socket", err))
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: changeGroups}); err != nil {
		return nil, fmt.Errorf("listen for changes of routes: %w", errors.Join(os.NewSyscallError("bind", err), unix.Close(fd)))
	}
	return &RouteMonitor{os.NewFile(uintptr(fd), "changes of routes")}, nil
}

// Wait returns true when something has changed, or after the time at most, and false
// when ctx has ended. What has changed until then is forgotten.
func (c *RouteMonitor) Wait(ctx context.Context, most time.Duration) (bool, error) {
	if err := c.file.SetReadDeadline(time.Now().Add(most)); err != nil {
		return false, err
	}
	release := context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer release()
	var message [1]byte // the rest of a datagram is dropped: that there was one says enough
	_, err := c.file.Read(message[:])
	switch {
	case ctx.Err() != nil:
		return false, nil
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ENOBUFS): // the last: more than could be kept
		return false, fmt.Errorf("listen for changes of routes: %w", err)
	}
	return true, c.drain()
}

// drain forgets what has come so far.
func (c *RouteMonitor) drain() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var message [1]byte
	return raw.Control(func(fd uintptr) {
		for range maxDrain {
			if _, err := unix.Read(int(fd), message[:]); errors.Is(err, unix.EAGAIN) {
				return
			}
		}
	})
}

// Close ends it. Nobody may be in Wait any more.
func (c *RouteMonitor) Close() error { return c.file.Close() }
