package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/observe"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/tun"
)

// An instance is one run of a Gateway.
type instance struct {
	o         *Options
	snapshots *snapshots
	flows     *flows.Table
	observer  *observe.Observer

	device         tun.Device
	gate           *admission.Gate
	stack          *netstack.Stack
	replay         replay.Auth
	control        *controlServer
	metrics        *observe.Server
	filter         *filter.Filter // nil if packets are dropped in user space only
	filterAttached bool           // the device has the filter
}

// target returns the instance as the Observer sees it.
func (in *instance) target() *observe.Target {
	return &observe.Target{
		Gate: in.gate, Stack: in.stack, Device: in.device, Store: in.replay.Store, Managed: in.o.Device == nil,
		Filter: in.filter, FilterAttached: in.filterAttached,
		AcceptQueue:        func() (used, limit int) { return in.snapshots.current.Load().acceptQueue() },
		ControlConnections: in.control.connections,
	}
}

// snapshot returns the snapshot whose policy the gate applies.
func (in *instance) snapshot() *snapshot {
	for {
		if s := in.snapshots.byPolicy(in.gate.Policy()); s != nil {
			return s
		}
		// A reload has completed between the two reads.
	}
}

// deviceName returns the current name of the device's interface.
func (in *instance) deviceName() string {
	info := in.device.Info()
	if link, err := info.Interface(); err == nil {
		return link.Name
	}
	return info.Name
}

// drainPoll is how often the end of a drain checks whether everything was sent.
const drainPoll = 10 * time.Millisecond

// drain refuses new flows and waits for the others, until DrainTime is over.
// Then it resets the rest. It also waits for what relays have passed to the
// stack: a flow is over when its client has received everything.
func (in *instance) drain() {
	timeout := max(in.o.DrainTime, 0)
	in.gate.Drain()
	in.o.Log.Info("stopping", "flows", in.flows.Len(), "timeout", timeout)
	in.snapshots.current.Load().closeListeners(nil) // no connection will be accepted any more

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if left := in.flows.Drain(ctx); left > 0 {
		in.o.Log.Info("flows reset", "count", left)
	}
	for in.gate.NumClosing() > 0 {
		select {
		case <-time.After(drainPoll):
		case <-ctx.Done():
			return
		}
	}
}

// abort refuses new flows and resets the others.
func (in *instance) abort() {
	in.gate.Drain()
	expired, cancel := context.WithCancel(context.Background())
	cancel()
	in.flows.Drain(expired)
}

// closeServers closes the listeners of an instance that does not run.
func (in *instance) closeServers() error {
	return errors.Join(in.metrics.Close(), in.control.Close())
}
