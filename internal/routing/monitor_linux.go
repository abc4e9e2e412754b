package routing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxDrain is the largest number of notifications that Wait discards at once:
// while a whole routing table is being filled they arrive as fast as they are
// read.
const maxDrain = 4096

// A RouteMonitor receives notifications of the kernel that an interface,
// address, route, next hop, rule or forwarding setting has changed. It does not
// say which: the kernel sends no notifications for routes that disappear with
// their interface. It takes no privileges.
type RouteMonitor struct{ file *os.File }

// routeGroups are the multicast groups that a RouteMonitor joins, as a bit set
// (rtnetlink(7)).
const routeGroups = 1<<(unix.RTNLGRP_LINK-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) |
	1<<(unix.RTNLGRP_IPV4_NETCONF-1) | 1<<(unix.RTNLGRP_IPV6_NETCONF-1) | 1<<(unix.RTNLGRP_NEXTHOP-1) |
	1<<(unix.RTNLGRP_IPV6_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// NewRouteMonitor subscribes to notifications. Wait reports all changes from its
// return on.
func NewRouteMonitor() (*RouteMonitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to route changes: %w", os.NewSyscallError("socket", err))
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: routeGroups}); err != nil {
		return nil, fmt.Errorf("subscribe to route changes: %w", errors.Join(os.NewSyscallError("bind", err), unix.Close(fd)))
	}
	return &RouteMonitor{os.NewFile(uintptr(fd), "route changes")}, nil
}

// Wait returns true after a change or the timeout, and false when ctx ends. It
// discards the notifications received until then.
func (m *RouteMonitor) Wait(ctx context.Context, timeout time.Duration) (bool, error) {
	if err := m.file.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return false, err
	}
	release := context.AfterFunc(ctx, func() { _ = m.file.SetReadDeadline(time.Unix(1, 0)) })
	defer release()
	var message [1]byte // the rest of the datagram is discarded: its arrival suffices
	_, err := m.file.Read(message[:])
	switch {
	case ctx.Err() != nil:
		return false, nil
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ENOBUFS): // ENOBUFS: some were lost
		return false, fmt.Errorf("listen for route changes: %w", err)
	}
	return true, m.drain()
}

// drain discards the notifications received so far.
func (m *RouteMonitor) drain() error {
	raw, err := m.file.SyscallConn()
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

// Close ends the subscription. It must not be called during Wait.
func (m *RouteMonitor) Close() error { return m.file.Close() }
