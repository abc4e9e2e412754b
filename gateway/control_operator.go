package gateway

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/observe"
)

// seconds returns a duration as shown to operators, in milliseconds' resolution.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Flows implements control.Gateway.
func (op operator) Flows(ctx context.Context, measure time.Duration) control.Flows {
	all := observe.NewestFlows(op.g.flows)
	list := control.Flows{Flows: []control.Flow{}}
	if len(all) > control.MaxList {
		list.Remaining, all = len(all)-control.MaxList, all[:control.MaxList]
	}

	type bytes struct{ up, down uint64 }
	before := make([]bytes, len(all))
	var took time.Duration
	if measure > 0 {
		for i, f := range all {
			before[i].up, before[i].down = f.Bytes()
		}
		began := time.Now()
		select {
		case <-time.After(measure):
		case <-ctx.Done():
		}
		took = time.Since(began)
	}

	for i, f := range all {
		up, down := f.Bytes()
		one := control.Flow{
			Client: f.Client(), Source: f.Key.Client, Service: f.Service, Target: f.Key.Target, Upstream: f.Upstream,
			Age: seconds(time.Since(f.Started)), Idle: seconds(f.Idle()), Received: up, Sent: down,
		}
		if took > 0 {
			one.ReceiveRate = math.Round(float64(up-before[i].up) / took.Seconds())
			one.SendRate = math.Round(float64(down-before[i].down) / took.Seconds())
		}
		list.Flows = append(list.Flows, one)
	}
	return list
}

// Grants implements control.Gateway.
func (op operator) Grants() control.Grants {
	list := control.Grants{Grants: []control.Grant{}}
	in := op.g.running.Load()
	if in == nil {
		return list
	}
	for _, gr := range in.gate.Grants(control.MaxList) {
		list.Grants = append(list.Grants, control.Grant{
			Client: gr.Client, Service: gr.Service, Source: gr.Source, Port: gr.Port,
			Left: seconds(gr.Left), Uses: gr.Uses, Handshakes: gr.Handshakes,
		})
	}
	slices.SortFunc(list.Grants, func(a, b control.Grant) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Left, b.Left))
	})
	return list
}

// Clients implements control.Gateway.
func (op operator) Clients() control.Clients {
	flowsOf, grantsOf := make(map[string]int), make(map[string]int)
	active := make(map[string]*flows.Flow) // the most recently active flow of each client
	for _, f := range op.g.flows.All() {
		flowsOf[f.Client()]++
		if last := active[f.Client()]; last == nil || f.Idle() < last.Idle() {
			active[f.Client()] = f
		}
	}
	if in := op.g.running.Load(); in != nil {
		for _, gr := range in.gate.Grants(control.MaxList) {
			grantsOf[gr.Client]++
		}
	}

	list := control.Clients{Clients: []control.ClientState{}}
	all := op.g.snapshots.current.Load().cfg.Clients
	if len(all) > control.MaxList {
		list.Remaining, all = len(all)-control.MaxList, all[:control.MaxList]
	}
	for i := range all {
		cl := &all[i]
		e := op.g.observer.LastSeen.Get(cl.ID)
		list.Clients = append(list.Clients, control.ClientState{
			ID: cl.ID, Services: cl.Services, Expires: cl.Expires, Flows: flowsOf[cl.ID], Grants: grantsOf[cl.ID],
			LastSeen: op.lastSeen(e.Seen, active[cl.ID]), LastDenied: e.Denied,
		})
	}
	return list
}

// lastSeen returns when a client was last seen: when it was last admitted, or
// when its flow last transferred bytes.
func (op operator) lastSeen(admitted *control.Attempt, f *flows.Flow) *control.Attempt {
	if f == nil || admitted == nil {
		return admitted
	}
	at := op.g.o.Now().Add(-f.Idle())
	if !at.After(admitted.Time) {
		return admitted
	}
	seen := *admitted
	seen.Time, seen.Source, seen.Service = at, f.Key.Client.Addr(), f.Service
	return &seen
}

// Bans implements control.Gateway.
func (op operator) Bans() control.Bans {
	list := control.Bans{Bans: []control.Ban{}}
	in := op.g.running.Load()
	if in == nil {
		return list
	}
	for _, b := range in.gate.Bans(control.MaxList) {
		list.Bans = append(list.Bans, control.Ban{Source: b.Source, Left: seconds(b.Left)})
	}
	slices.SortFunc(list.Bans, func(a, b control.Ban) int { return cmp.Compare(a.Left, b.Left) })
	return list
}

// Revoke implements control.Gateway.
func (op operator) Revoke(r control.Revocation, name string) (control.Revoked, error) {
	in := op.g.running.Load()
	if in == nil {
		return control.Revoked{}, control.ErrUnavailable
	}
	if err := op.checkExists(&r); err != nil {
		return control.Revoked{}, err
	}
	done := in.gate.Revoke(admission.Target{
		Client: r.Client, Service: r.Service, Source: r.Source, Flow: r.Flow, GrantsOnly: r.Grants,
	})
	op.g.o.Log.Info("revoked", "operator", name, "client", r.Client, "service", r.Service, "source", r.Source, "flow", r.Flow,
		"flows", done.Flows, "grants", done.Grants)
	op.g.observer.Audit.Add(audit.Event{
		Kind: audit.Revoke, Operator: name, Client: r.Client, Service: r.Service, Source: revokedSource(&r),
		Reason: fmt.Sprintf("%d flows, %d grants", done.Flows, done.Grants),
	})
	return control.Revoked{Flows: done.Flows, Grants: done.Grants}, nil
}

// checkExists rejects a revocation of an unknown client or service: a typo must
// not look like success. A client that was removed from the configuration has
// nothing left to revoke.
func (op operator) checkExists(r *control.Revocation) error {
	cfg := op.g.snapshots.current.Load().cfg
	if r.Client != "" && !slices.ContainsFunc(cfg.Clients, func(cl config.Client) bool { return cl.ID == r.Client }) {
		return fmt.Errorf("there is no client %q; knockgw clients lists them", r.Client)
	}
	if r.Service != "" && op.g.snapshots.current.Load().services[r.Service] == nil {
		return fmt.Errorf("there is no service %q; knockgw check lists them", r.Service)
	}
	return nil
}

// revokedSource returns the source of a revocation for the audit.
func revokedSource(r *control.Revocation) string {
	switch {
	case r.Flow.IsValid():
		return r.Flow.String()
	case r.Source.IsValid():
		return r.Source.String()
	default:
		return ""
	}
}

// Unban implements control.Gateway.
func (op operator) Unban(source netip.Prefix, name string) int {
	in := op.g.running.Load()
	if in == nil {
		return 0
	}
	n := in.gate.Unban(source)
	op.g.observer.Audit.Add(audit.Event{Kind: audit.Unban, Operator: name, Source: source.String(), Reason: fmt.Sprintf("%d bans", n)})
	op.g.o.Log.Info("bans removed", "operator", name, "source", source, "bans", n)
	return n
}

// Trace implements control.Gateway.
func (op operator) Trace(ctx context.Context, o control.TraceOptions, each func(*control.TraceEvent) error) error {
	return op.g.observer.Trace(ctx, o, each)
}

// Capture implements control.Gateway.
func (op operator) Capture(ctx context.Context, o control.CaptureOptions, w io.Writer, flush func() error) error {
	return op.g.observer.Capture(ctx, o, w, flush)
}
