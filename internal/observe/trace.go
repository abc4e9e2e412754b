package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/verdict"
	"github.com/knockgw/knockgw/packet"
)

// trace is the sink of a session that describes the events of one source, or of
// all.
type trace struct {
	noEvents
	o       control.TraceOptions
	now     func() time.Time
	policy  func() *policy.Policy
	events  chan control.TraceEvent
	dropped atomic.Uint64
}

// Trace calls each with the events that o selects, until ctx ends or each fails.
func (ob *Observer) Trace(ctx context.Context, o control.TraceOptions, each func(*control.TraceEvent) error) error {
	target := ob.running.Load()
	if target == nil {
		return control.ErrUnavailable
	}
	if o.Service != "" && !slices.ContainsFunc(ob.o.Config().Services, func(s config.Service) bool { return s.Name == o.Service }) {
		return fmt.Errorf("there is no service %q", o.Service)
	}
	t := &trace{o: o, now: ob.o.Now, policy: target.Gate.Policy, events: make(chan control.TraceEvent, traceQueue)}
	unsubscribe, err := ob.Sessions.subscribe(&session{t, t.queued}, o.From)
	if err != nil {
		return err
	}
	defer unsubscribe()
	if err := each(new(control.TraceEvent)); err != nil { // the trace has started
		return err
	}

	for {
		select {
		case e := <-t.events:
			if err := each(&e); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *trace) queued() (used, limit int) { return len(t.events), cap(t.events) }

// Packet implements Sink.
func (t *trace) Packet(e *capture.Event) {
	tuple := &e.Packet.Tuple
	from, to, port := tuple.Src, tuple.Dst, tuple.DstPort
	if e.Out {
		from, to, port = tuple.Dst, tuple.Src, tuple.SrcPort
	}
	if from == (packet.Addr{}) || !t.o.From.Contains(from.Netip()) {
		return
	}

	service := ""
	if s := t.policy().Service(netip.AddrPortFrom(to.Netip(), port)); s != nil && e.Packet.Proto == packet.TCP {
		service = s.Name
	}
	if t.o.Service != "" && service != t.o.Service && e.Packet.Proto == packet.TCP {
		return // datagrams are shown: the service of a knock is known once it is decrypted
	}
	t.add(control.TraceEvent{
		Time: t.now(), Step: control.StepPacket, Out: e.Out,
		Source: tuple.Source().String(), Target: tuple.Destination().String(),
		Detail: fmt.Sprintf("%s, %d bytes", e.Packet.Transport(), e.Length), Service: service,
		Verdict: e.Verdict, Reason: e.Reason, Message: verdict.Describe(e.Out, e.Reason),
	})
}

// Knock implements Sink.
func (t *trace) Knock(e *knock.Event) {
	t.addFrom(e.Source, control.TraceEvent{
		Time: t.now(), Step: control.StepKnock, Source: e.Source.String(), Detail: e.Method,
		Verdict: e.Result.String(), Message: e.Result.Description(), Client: e.Client, Service: e.Service,
		ClockDifference: seconds(e.Skew),
	})
}

// Auth implements Sink.
func (t *trace) Auth(a *AuthEvent) {
	e := control.TraceEvent{
		Time: t.now(), Step: control.StepAuth, Source: a.Tuple.Source().String(), Target: a.Tuple.Destination().String(),
		Service: a.Service, Verdict: auth.ResultOK.String(),
	}
	if a.Peer != nil {
		e.Client, e.Detail = a.Peer.Client.ID(), a.Peer.Protocol.String()
	} else {
		e.Verdict, e.Message, e.ClockDifference = a.Result.String(), describeAuth(a.Result), seconds(a.Err.ClockOffset)
		if a.Err.Client != nil {
			e.Client = a.Err.Client.ID()
		}
		if a.Err.Err != nil {
			e.Message = a.Err.Err.Error()
		}
	}
	t.addFrom(a.Tuple.Src.Netip(), e)
}

// Flow implements Sink.
func (t *trace) Flow(f *flows.Flow, reason flows.CloseReason) {
	up, down := f.Bytes()
	t.addFrom(f.Key.Client.Addr(), control.TraceEvent{
		Time: t.now(), Step: control.StepFlow, Source: f.Key.Client.String(), Target: f.Key.Target.String(),
		Service: f.Service, Client: f.Client(), Verdict: "ended", Reason: reason.String(),
		Detail: fmt.Sprintf("%d bytes received, %d sent", up, down),
	})
}

// addFrom queues an event of a source if the trace selects it.
func (t *trace) addFrom(from netip.Addr, e control.TraceEvent) {
	if t.o.From.Contains(from) && (t.o.Service == "" || e.Service == "" || e.Service == t.o.Service) {
		t.add(e)
	}
}

// add queues an event, or drops and counts it.
func (t *trace) add(e control.TraceEvent) {
	e.Dropped = t.dropped.Swap(0)
	select {
	case t.events <- e:
	default:
		t.dropped.Add(e.Dropped + 1)
	}
}
