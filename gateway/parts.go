package gateway

import (
	"context"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/tun"
)

// parts are a gateway in motion.
type parts struct {
	g      *Gateway
	gate   *admission.Gate
	stack  *netstack.Stack
	device tun.Device
	replay replay.Auth
	filter *filter.Filter // nil where packets are refused in user space
	// filtering: the device has the filter.
	filtering bool
	servers   *servers
}

// assemble makes the gate and the stack and joins them. The parts have no stack if it
// fails.
func (p *parts) assemble(ctx context.Context, store replay.Store) (err error) {
	g, now := p.g, p.g.now.Load()
	p.replay = replay.Auth{Store: store, Now: g.o.Now}
	p.gate, err = admission.New(admission.Options{
		Policy: now.policy, Store: store, Now: g.o.Now, Log: g.log,
		Deliver:  func(q *packet.Packet, v admission.Verdict) { p.stack.Inject(q, decision(v)) },
		Unparked: g.unparked,
		Evicted:  p.forget,
		Revoked:  p.forget,
		Knocked:  g.knocked,
		Banned:   g.banned,
		Settled:  p.settlement,
		Mirror:   p.mirror(),
		MTU:      p.device.Info().MTU,
		TimeWait: netstack.TimeWaitTime,
		Limits:   gateconfig.Limits(&now.cfg.Limits),
		Ban:      admission.Ban(now.cfg.Ban),
	})
	if err != nil {
		return err
	}
	if err := p.attachFilter(); err != nil {
		return err
	}
	for _, s := range now.services {
		s.join(p.gate, p.replay)
	}
	// Flows outlive ctx: the drain decides about them.
	flowctx := context.WithoutCancel(ctx)
	p.stack, err = netstack.New(netstack.Options{
		Device:    p.device,
		Admit:     p.admit,
		Egress:    p.egress,
		Handle:    func(r *netstack.Request) { p.handle(flowctx, r) },
		OpenPorts: now.openPorts(),
	})
	return err
}

// settlement translates for the gate how far the stack is with a flow.
func (p *parts) settlement(t packet.Tuple) admission.Settlement {
	switch p.stack.CloseState(t) {
	case netstack.Closed:
		return admission.Gone
	case netstack.TimeWait:
		return admission.InTimeWait
	default:
		return admission.Busy
	}
}

// forget ends a flow that was evicted or that a reload has taken out of the gate's
// table. Where its handshake with an open service is under way, or its relay is done,
// only the stack knows it.
func (p *parts) forget(t packet.Tuple) {
	if !p.g.flows.Kill(key(t)) {
		p.stack.Abort(t)
	}
}

func decision(v admission.Verdict) netstack.Decision {
	return netstack.Decision{
		Pass: v.Action == admission.Pass, Open: v.Open, TupleReused: v.Anew,
		Handling: netstack.Handling{Reset: v.Reset, AddTimestamp: v.Unstamped, Timestamp: v.Timestamp},
	}
}
