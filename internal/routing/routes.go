package routing

import (
	"errors"
	"net/netip"
)

// ErrPrefixInUse means that another gateway that is running uses a prefix.
var ErrPrefixInUse = errors.New("the prefix is in use by another gateway")

// Routes are the prefixes whose packets belong to the gateway. Each has two
// routes: one to the device, and behind it (worse metric) a blackhole, which
// takes over whenever the device is not there. The order of the calls is what
// makes silence seamless:
//
//	Blackhole     before the device exists      strangers meet the blackhole
//	Attach        device open, nobody reads yet strangers' packets wait in its queue
//	(device gone) the kernel drops its routes   strangers meet the blackhole
//	Remove        `knockgw down`                the prefixes are ordinary again
//
// No protected address is ever put on an interface: the kernel itself would
// answer for it.
type Routes struct {
	Prefixes []netip.Prefix
	// UpstreamLinks are interfaces behind which hosts of a prefix are. What comes by them
	// for the prefix follows the main table, and so do the answers of those hosts
	// to the gateway. What comes by any other goes to the device.
	UpstreamLinks []UpstreamLink
	table         int // where the routes are; 0 for the main table
}

// UpstreamLink is an interface behind which hosts of a prefix are: upstreams whose own
// addresses the gateway protects.
type UpstreamLink struct {
	Prefix netip.Prefix `json:"prefix"`
	Device string       `json:"device"`
}
