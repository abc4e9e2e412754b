package routing

import (
	"errors"
	"net/netip"
)

// ErrPrefixInUse means that another gateway that is running uses a prefix.
var ErrPrefixInUse = errors.New("the prefix is in use by another gateway")

// Routes lead the packets of prefixes to the gateway. Each prefix has two
// routes: one to the device and, with a worse metric, a blackhole, which takes
// over whenever the device does not exist. Thanks to the order of the calls,
// packets of unauthorized hosts are never answered:
//
//	InstallBlackholes  before the device exists   packets are dropped
//	Attach             before the first read      packets wait in the device's queue
//	(device removed)   the kernel drops its route packets are dropped
//	Remove             `knockgw down`             the prefixes are ordinary again
//
// No protected address is ever assigned to an interface: the kernel itself would
// answer for it.
type Routes struct {
	Prefixes []netip.Prefix
	// UpstreamLinks are the interfaces with hosts of a prefix behind them.
	// Packets for the prefix that arrive by them are routed by the main table,
	// and so are the answers of those hosts to the gateway. Packets that arrive
	// by any other interface are routed to the device.
	UpstreamLinks []UpstreamLink
	table         int // of the routes; 0 for the main table
}

// An UpstreamLink is an interface with hosts of a protected prefix behind it:
// upstreams whose own addresses the gateway protects.
type UpstreamLink struct {
	Prefix netip.Prefix `json:"prefix"`
	Device string       `json:"device"`
}
