package tun

import "net/netip"

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
	table    int // where the routes are; 0 for the main table
}
