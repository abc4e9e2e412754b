package netstack

import "gvisor.dev/gvisor/pkg/tcpip"

// WithClock returns the options with the clock c.
func (o Options) WithClock(c tcpip.Clock) Options {
	o.clock = c
	return o
}
