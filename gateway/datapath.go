package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/observe"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/verdict"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// The data path joins the device, the gate and the stack, which do not know each
// other. The life of a packet, in the order of the functions below:
//
//	read, parse    netstack.Stack.Run reads the device and parses what it has read
//	admit          the gate decides; a packet that passes goes into the stack
//	deliver        a SYN that the gate had deferred goes into the stack after all
//	handle         the stack has a new connection: it becomes a flow, which
//	               authenticates, dials the upstream and relays
//	egress         the gate decides about every packet that the stack sends
//	end            the gate evicts or revokes a flow: flow and stack drop it
//
// In the other direction, the gate asks the stack for the state of a connection
// that was closed.

// wire creates the gate and the stack and joins them. The instance has no stack
// if it fails.
func (in *instance) wire(ctx context.Context, store replay.Store) (err error) {
	current := in.snapshots.current.Load()
	in.replay = replay.Auth{Store: store, Now: in.o.Now}
	in.gate, err = admission.New(admission.Options{
		Policy: current.policy, Store: store, Now: in.o.Now, Log: in.o.Log,
		Deliver:    in.deliver,
		Deferred:   in.deferred,
		Evicted:    in.end,
		Revoked:    in.end,
		Knocked:    in.observer.Knock,
		Banned:     in.observer.Ban,
		CloseState: in.closeState,
		Offload:    in.mirror(),
		MTU:        in.device.Info().MTU,
		TimeWait:   netstack.TimeWaitTime,
		Limits:     gateconfig.Limits(&current.cfg.Limits),
		Ban:        admission.Ban(current.cfg.Ban),
	})
	if err != nil {
		return err
	}
	if err := in.attachFilter(); err != nil {
		return err
	}
	for _, s := range current.services {
		s.bindGate(in.gate, in.replay)
	}

	// Flows outlive ctx: the drain ends them.
	flowctx := context.WithoutCancel(ctx)
	in.stack, err = netstack.New(netstack.Options{
		Device:    in.device,
		Admit:     in.admit,
		Egress:    in.egress,
		Handle:    func(r *netstack.Request) { in.handle(flowctx, r) },
		OpenPorts: current.openPorts(),
	})
	return err
}

// admit decides about a packet from the device. It does not allocate unless a
// trace or a capture is in progress.
func (in *instance) admit(p *packet.Packet) netstack.Decision {
	if !in.observer.Capturing() {
		return decision(in.gate.Admit(p))
	}
	length, data := len(p.Data), p.Data // Admit may reassemble a fragment into a whole packet
	v := in.gate.Admit(p)
	seen := *p
	seen.Data = data
	in.observer.Packet(capture.Event{Packet: &seen, Length: length, Verdict: v.Action.String(), Reason: verdict.Reason(p, v)})
	return decision(v)
}

// decision translates a verdict for the stack.
func decision(v admission.Verdict) netstack.Decision {
	return netstack.Decision{
		Pass: v.Action == admission.Pass, Open: v.Open, TupleReused: v.TupleReused,
		Handling: netstack.Handling{Reset: v.Reset, AddTimestamp: v.Unstamped, Timestamp: v.Timestamp},
	}
}

// deliver passes a packet that the gate had deferred to the stack.
func (in *instance) deliver(p *packet.Packet, v admission.Verdict) { in.stack.Inject(p, decision(v)) }

// deferred reports the verdict on a packet that the gate had deferred.
func (in *instance) deferred(p *packet.Packet, v admission.Verdict) {
	if in.observer.Capturing() {
		in.observer.Packet(capture.Event{Packet: p, Length: len(p.Data), Verdict: v.Action.String(), Reason: v.Reason.String()})
	}
}

// handle serves a new connection of the stack until it ends.
func (in *instance) handle(ctx context.Context, r *netstack.Request) {
	target := r.Tuple.Destination()
	s := in.snapshot()
	svc := s.policy.Service(target)
	if svc == nil { // removed since the SYN
		in.gate.Remove(r.Tuple)
		return
	}
	in.flows.Serve(ctx, request{r}, in.plan(s.services[svc.Name], r.Tuple, target))
}

// request adapts a netstack.Request to flows.Request.
type request struct{ *netstack.Request }

// Accept implements flows.Request.
func (r request) Accept() (flows.Conn, error) {
	c, err := r.Request.Accept()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// flowKey translates a tuple for the flows.
func flowKey(t packet.Tuple) flows.Key {
	return flows.Key{Client: t.Source(), Target: t.Destination()}
}

// plan returns how to serve a flow of a service.
func (in *instance) plan(s *service, t packet.Tuple, target netip.AddrPort) *flows.Plan {
	plan := &flows.Plan{
		Key: flowKey(t), Service: s.Name,
		DialTimeout: s.DialTimeout, Idle: s.Idle,
		InFlight:      func() int { return in.gate.InFlight(t) },
		Admitted:      func() bool { return in.gate.Admitted(t) },
		HandshakeDone: func() error { return in.gate.HandshakeDone(t) },
		OnDrop:        func() { in.gate.Remove(t) },
		OnClose:       func() { in.gate.RelayDone(t) },
		OnEnd:         in.observer.Flow,
	}
	if s.auth != nil {
		plan.Authenticate = func(ctx context.Context, conn net.Conn) (string, error) {
			return in.authenticate(ctx, s, t, conn)
		}
	} else {
		plan.Client = func() string {
			if id := in.gate.Client(t); id != nil {
				return id.ID()
			}
			return ""
		}
	}
	if l := s.listener; l != nil {
		plan.Serve = l.serve
		return plan
	}

	plan.Upstream = s.Upstream.Address(target)
	if s.auth == nil {
		plan.DialFirst = true
		plan.Share = func() (flows.ShareKey, int) {
			grant, uses := in.gate.Uses(t)
			return flows.ShareKey{Grant: grant, Upstream: plan.Upstream}, uses
		}
	}
	plan.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := s.dialer.DialContext(ctx, "tcp", plan.Upstream)
		in.observer.Metrics.Dialed(s.Name, err)
		return conn, err
	}
	return plan
}

// authenticate runs the handshake with the clients that may be on a connection,
// and returns the ID of the one that is.
func (in *instance) authenticate(ctx context.Context, s *service, t packet.Tuple, conn net.Conn) (string, error) {
	start, candidates := time.Now(), slices.Values(in.gate.Candidates(t))
	peer, err := s.auth.HandshakeWith(ctx, conn, candidates)
	event := observe.AuthEvent{Service: s.Name, Tuple: t}
	if err == nil {
		event.Result, event.Peer, event.Took = auth.ResultOK, &peer, time.Since(start)
		in.observer.Auth(event)
		return peer.Client.ID(), nil
	}

	event.Result = auth.ResultCanceled
	if errors.As(err, &event.Err) {
		event.Result = event.Err.Result
	}
	event.Took = time.Since(start)
	in.authFailed(event)
	lost := errors.Is(err, admission.ErrNoGrant) && !errors.Is(err, admission.ErrOtherSession)
	if lost && s.Mode == config.ModeKnockAuth && !s.Visible {
		// The client's own knock was lost, and its SYN used the grant of
		// another client behind the same address. Without that it would have
		// got no answer, and retried.
		in.gate.Remove(t)
	}
	return "", err
}

// authFailed reports a failed authentication, and counts it toward a ban if the
// peer failed.
func (in *instance) authFailed(e observe.AuthEvent) {
	if e.Err != nil && e.Err.Result.PeerFailed() {
		in.gate.Failed(e.Tuple)
	}
	in.observer.Auth(e)
}

// egress reports whether a packet of the stack may be sent; size is that of its
// payload.
func (in *instance) egress(p *packet.Packet, size int) bool {
	pass := in.gate.Egress(p, size)
	if in.observer.Capturing() {
		e := capture.Event{Packet: p, Length: p.Payload + size, Out: true, Verdict: admission.Pass.String(), Reason: admission.ReasonFlow.String()}
		if !pass {
			e.Verdict, e.Reason = admission.Drop.String(), verdict.EgressDropped
		}
		in.observer.Packet(e)
	}
	return pass
}

// end ends a flow that was evicted or revoked. If its handshake with an open
// service is in progress, or its relay is done, only the stack has it.
func (in *instance) end(t packet.Tuple) {
	if !in.flows.Kill(flowKey(t)) {
		in.stack.Abort(t)
	}
}

// closeState translates the state of a closed flow for the gate.
func (in *instance) closeState(t packet.Tuple) admission.CloseState {
	switch in.stack.CloseState(t) {
	case netstack.Closed:
		return admission.EndpointClosed
	case netstack.TimeWait:
		return admission.EndpointTimeWait
	default:
		return admission.EndpointBusy
	}
}
