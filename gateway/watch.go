package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/verdict"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// Who watches, and what it costs: nothing but a look at a pointer for each packet
// while nobody does. A watcher takes copies into a bounded queue and never makes a
// packet wait; the kernel's filter passes what is watched, so that there is
// something to see.

const (
	// maxWatchers bounds how many traces and captures there may be at once: each
	// is asked about every packet.
	maxWatchers = 8
	// watchQueue is how many events of a trace may wait for their reader.
	watchQueue = 1024
)

var errTooManyWatchers = fmt.Errorf("%d traces and captures are under way already: end one", maxWatchers)

// watchers are those who watch now.
type watchers struct {
	all atomic.Pointer[[]watcher] // nil for none; replaced, never changed

	mu     sync.Mutex // held by who replaces all, or tells the filter
	traced map[netip.Addr]int
	most   int // how many want to see everything
}

// A watcher is told of what happens; it must return at once.
type watcher interface {
	queued() (now, most int) // events that wait for its reader, and how many may
	packet(e *capture.Event)
	event(from netip.Addr, e *control.TraceEvent)
}

// each calls f with every watcher.
func (w *watchers) each(f func(watcher)) {
	if all := w.all.Load(); all != nil {
		for _, one := range *all {
			f(one)
		}
	}
}

// join adds a watcher of what comes from a source, or of everything if that is not
// one address, until leave.
func (p *parts) join(one watcher, from netip.Prefix) (leave func(), err error) {
	w := &p.g.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	var now []watcher
	if all := w.all.Load(); all != nil {
		now = *all
	}
	if len(now) >= maxWatchers {
		return nil, errTooManyWatchers
	}
	next := append(slices.Clone(now), one)
	w.all.Store(&next)
	p.expose(from, 1)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(*w.all.Load()), func(o watcher) bool { return o == one })
		if w.all.Store(&left); len(left) == 0 {
			w.all.Store(nil)
		}
		p.expose(from, -1)
	}, nil
}

// expose has the kernel's filter pass what one more, or less, wants to see. The
// caller holds watchers.mu.
func (p *parts) expose(from netip.Prefix, more int) {
	if p.filter == nil {
		return
	}
	w := &p.g.watchers
	if !from.IsSingleIP() {
		w.most += more
		p.filter.BypassAll(w.most > 0)
		return
	}
	if w.traced == nil {
		w.traced = make(map[netip.Addr]int)
	}
	a := from.Addr()
	w.traced[a] += more
	p.filter.BypassSource(a, w.traced[a] > 0)
	if w.traced[a] == 0 {
		delete(w.traced, a)
	}
}

// admit judges a packet that came, for the stack.
func (p *parts) admit(q *packet.Packet) netstack.Decision {
	if p.g.watchers.all.Load() == nil {
		return decision(p.gate.Admit(q))
	}
	length := len(q.Data) // Admit may make a whole packet of a fragment
	data := q.Data
	v := p.gate.Admit(q)
	seen := *q
	seen.Data = data
	e := capture.Event{Packet: &seen, Length: length, Verdict: v.Action.String(), Reason: verdict.Reason(q, v)}
	p.g.watchers.each(func(w watcher) { w.packet(&e) })
	return decision(v)
}

// egress decides about a packet of the stack.
func (p *parts) egress(q *packet.Packet, size int) bool {
	pass := p.gate.Egress(q, size)
	if p.g.watchers.all.Load() != nil {
		e := capture.Event{Packet: q, Length: q.Payload + size, Out: true, Verdict: admission.Pass.String(), Reason: admission.ReasonFlow.String()}
		if !pass {
			e.Verdict, e.Reason = admission.Drop.String(), verdict.EgressDropped
		}
		p.g.watchers.each(func(w watcher) { w.packet(&e) })
	}
	return pass
}

// unparked tells of a SYN that had waited.
func (g *Gateway) unparked(q *packet.Packet, v admission.Verdict) {
	if g.watchers.all.Load() == nil {
		return
	}
	e := capture.Event{Packet: q, Length: len(q.Data), Verdict: v.Action.String(), Reason: v.Reason.String()}
	g.watchers.each(func(w watcher) { w.packet(&e) })
}

// watchKnock tells the watchers of a decided knock.
func (g *Gateway) watchKnock(e *knock.Event) {
	if g.watchers.all.Load() == nil {
		return
	}
	t := control.TraceEvent{
		Time: g.o.Now(), Step: control.StepKnock, Source: e.Source.String(), Detail: e.Method,
		Verdict: e.Result.String(), Message: e.Result.Description(), Client: e.Client, Service: e.Service,
		ClockDifference: seconds(e.Skew),
	}
	g.watchers.each(func(w watcher) { w.event(e.Source, &t) })
}

// watchAuth tells the watchers of an authentication.
func (g *Gateway) watchAuth(service string, t packet.Tuple, peer *auth.Peer, failed *auth.Error) {
	if g.watchers.all.Load() == nil {
		return
	}
	e := control.TraceEvent{
		Time: g.o.Now(), Step: control.StepAuth, Source: t.Source().String(), Target: t.Destination().String(),
		Service: service, Verdict: auth.ResultOK.String(),
	}
	if failed != nil {
		e.Verdict, e.Message, e.ClockDifference = failed.Result.String(), authWords(failed.Result), seconds(failed.ClockOffset)
		if failed.Client != nil {
			e.Client = failed.Client.ID()
		}
		if failed.Err != nil {
			e.Message = failed.Err.Error()
		}
	} else {
		e.Client, e.Detail = peer.Client.ID(), peer.Protocol.String()
	}
	g.watchers.each(func(w watcher) { w.event(t.Src.Netip(), &e) })
}

// watchEnd tells the watchers of a flow's end.
func (g *Gateway) watchEnd(f *flows.Flow, end flows.CloseReason) {
	if g.watchers.all.Load() == nil {
		return
	}
	up, down := f.Bytes()
	e := control.TraceEvent{
		Time: g.o.Now(), Step: control.StepFlow, Source: f.Key.Client.String(), Target: f.Key.Target.String(),
		Service: f.Service, Client: f.Client(), Verdict: "ended", Reason: end.String(),
		Detail: fmt.Sprintf("%d bytes received, %d sent", up, down),
	}
	g.watchers.each(func(w watcher) { w.event(f.Key.Client.Addr(), &e) })
}

// tracer is the watcher of one trace.
type tracer struct {
	g      *Gateway
	o      control.TraceOptions
	events chan control.TraceEvent
	missed atomic.Uint64
}

func (t *tracer) packet(e *capture.Event) {
	from, to := e.Packet.Tuple.Src, e.Packet.Tuple.Dst
	if e.Out {
		from, to = to, from
	}
	if from == (packet.Addr{}) || !t.o.From.Contains(from.Netip()) {
		return
	}
	service := ""
	port := e.Packet.Tuple.DstPort
	if e.Out {
		port = e.Packet.Tuple.SrcPort
	}
	if s := t.g.now.Load().policy.Service(netip.AddrPortFrom(to.Netip(), port)); s != nil && e.Packet.Proto == packet.TCP {
		service = s.Name
	}
	if t.o.Service != "" && service != t.o.Service && e.Packet.Proto == packet.TCP {
		return // datagrams are shown: which service a knock is for shows when it opens
	}
	t.add(control.TraceEvent{
		Time: t.g.o.Now(), Step: control.StepPacket, Out: e.Out,
		Source: e.Packet.Tuple.Source().String(), Target: e.Packet.Tuple.Destination().String(),
		Detail: fmt.Sprintf("%s, %d bytes", e.Packet.Transport(), e.Length), Service: service,
		Verdict: e.Verdict, Reason: e.Reason, Message: verdict.Describe(e.Out, e.Reason),
	})
}

func (t *tracer) event(from netip.Addr, e *control.TraceEvent) {
	if t.o.From.Contains(from) && (t.o.Service == "" || e.Service == "" || e.Service == t.o.Service) {
		t.add(*e)
	}
}

func (t *tracer) queued() (now, most int) { return len(t.events), cap(t.events) }

func (t *tracer) add(e control.TraceEvent) {
	e.Dropped = t.missed.Swap(0)
	select {
	case t.events <- e:
	default:
		t.missed.Add(e.Dropped + 1)
	}
}

// Trace implements control.Watching.
func (c controlled) Trace(ctx context.Context, o control.TraceOptions, each func(*control.TraceEvent) error) error {
	p := c.g.running.Load()
	if p == nil {
		return control.ErrUnavailable
	}
	if o.Service != "" && c.g.now.Load().services[o.Service] == nil {
		return fmt.Errorf("there is no service %q", o.Service)
	}
	t := &tracer{g: c.g, o: o, events: make(chan control.TraceEvent, watchQueue)}
	leave, err := p.join(t, o.From)
	if err != nil {
		return err
	}
	defer leave()
	if err := each(new(control.TraceEvent)); err != nil { // it has begun
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

// tapped is the watcher of one capture.
type tapped struct{ *capture.Tap }

func (t tapped) queued() (now, most int)                 { return t.Queued() }
func (t tapped) packet(e *capture.Event)                 { t.Enqueue(e) }
func (tapped) event(_ netip.Addr, _ *control.TraceEvent) {}

// Capture implements control.Watching.
func (c controlled) Capture(ctx context.Context, o control.CaptureOptions, w io.Writer, flush func() error) error {
	p := c.g.running.Load()
	if p == nil {
		return control.ErrUnavailable
	}
	filter, err := capture.ParseFilter(o.Filter, verdict.Reasons())
	if err != nil {
		return err
	}
	tap := capture.NewTap(capture.TapOptions{Filter: filter, Snaplen: o.Snaplen, Now: c.g.o.Now})
	defer tap.Close()
	leave, err := p.join(tapped{tap}, netip.Prefix{})
	if err != nil {
		return err
	}
	leave = sync.OnceFunc(leave)
	defer leave()
	out, err := capture.NewWriter(w, capture.WriterOptions{
		Interface: p.device.Info().Name, Snaplen: tap.Snaplen(), Filter: o.Filter,
	})
	if err != nil {
		return err
	}
	for {
		if err := errors.Join(out.Flush(), flush()); err != nil {
			return err
		}
		// What waits is written in one go, and then given to the client.
		until, cancel := ctx, context.CancelFunc(func() {})
		for {
			r, err := tap.Next(until)
			if err != nil {
				cancel()
				if ctx.Err() != nil { // the client, who may still read, wants no more
					leave()
					return errors.Join(endCapture(out, tap), flush())
				}
				break
			}
			if err := out.Write(&r); err != nil {
				cancel()
				return err
			}
			tap.Free(&r)
			if until == ctx {
				until, cancel = context.WithTimeout(ctx, captureDelay)
			}
		}
	}
}

// endCapture writes what was taken and waits, and how many were left out.
func endCapture(out *capture.Writer, tap *capture.Tap) error {
	tap.Close()
	for {
		r, err := tap.Next(context.Background()) // which does not wait any more
		if err != nil {
			return out.Close(tap.Unreported())
		}
		if err := out.Write(&r); err != nil {
			return err
		}
		tap.Free(&r)
	}
}

// captureDelay is how long packets may be gathered before their client gets them.
const captureDelay = 100 * time.Millisecond
