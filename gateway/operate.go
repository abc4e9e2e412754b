package gateway

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/control"
)

// seconds is a time as operators are told it, to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Flows implements control.Operation.
func (c controlled) Flows(ctx context.Context, measure time.Duration) control.Flows {
	all := c.g.newestFlows()
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

// Grants implements control.Operation.
func (c controlled) Grants() control.Grants {
	list := control.Grants{Grants: []control.Grant{}}
	p := c.g.running.Load()
	if p == nil {
		return list
	}
	for _, gr := range p.gate.Grants(control.MaxList) {
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

// Clients implements control.Operation.
func (c controlled) Clients() control.Clients {
	inside, granted := make(map[string]int), make(map[string]int)
	active := make(map[string]*flows.Flow) // the flow of each client in which bytes came last
	for _, f := range c.g.flows.All() {
		inside[f.Client()]++
		if last := active[f.Client()]; last == nil || f.Idle() < last.Idle() {
			active[f.Client()] = f
		}
	}
	if p := c.g.running.Load(); p != nil {
		for _, gr := range p.gate.Grants(control.MaxList) {
			granted[gr.Client]++
		}
	}
	list := control.Clients{Clients: []control.ClientState{}}
	all := c.g.now.Load().cfg.Clients
	if len(all) > control.MaxList {
		list.Remaining, all = len(all)-control.MaxList, all[:control.MaxList]
	}
	for i := range all {
		cl := &all[i]
		e := c.g.journal.of(cl.ID)
		list.Clients = append(list.Clients, control.ClientState{
			ID: cl.ID, Services: cl.Services, Expires: cl.Expires, Flows: inside[cl.ID], Grants: granted[cl.ID],
			LastSeen: c.g.lastSeen(e.seen, active[cl.ID]), LastDenied: e.refused,
		})
	}
	return list
}

// lastSeen is when a client was seen last: when it was let in, or when bytes moved
// in a session of its that is open.
func (g *Gateway) lastSeen(admitted *control.Attempt, f *flows.Flow) *control.Attempt {
	if f == nil || admitted == nil {
		return admitted
	}
	at := g.o.Now().Add(-f.Idle())
	if !at.After(admitted.Time) {
		return admitted
	}
	seen := *admitted
	seen.Time, seen.Source, seen.Service = at, f.Key.Client.Addr(), f.Service
	return &seen
}

// Bans implements control.Operation.
func (c controlled) Bans() control.Bans {
	list := control.Bans{Bans: []control.Ban{}}
	p := c.g.running.Load()
	if p == nil {
		return list
	}
	for _, b := range p.gate.Bans(control.MaxList) {
		list.Bans = append(list.Bans, control.Ban{Source: b.Source, Left: seconds(b.Left)})
	}
	slices.SortFunc(list.Bans, func(a, b control.Ban) int { return cmp.Compare(a.Left, b.Left) })
	return list
}

// Revoke implements control.Operation.
func (c controlled) Revoke(r control.Revocation, operator string) (control.Revoked, error) {
	p := c.g.running.Load()
	if p == nil {
		return control.Revoked{}, control.ErrUnavailable
	}
	if err := c.known(&r); err != nil {
		return control.Revoked{}, err
	}
	done := p.gate.Revoke(admission.Target{
		Client: r.Client, Service: r.Service, Source: r.Source, Flow: r.Flow, GrantsOnly: r.Grants,
	})
	c.g.log.Info("revoked", "by", operator, "client", r.Client, "service", r.Service, "source", r.Source, "flow", r.Flow,
		"flows", done.Flows, "grants", done.Grants)
	c.g.audit.Add(audit.Event{
		Kind: audit.Revoke, Operator: operator, Client: r.Client, Service: r.Service, Source: revokedSource(&r),
		Reason: fmt.Sprintf("%d flows, %d grants", done.Flows, done.Grants),
	})
	return control.Revoked{Flows: done.Flows, Grants: done.Grants}, nil
}

// known returns an error where a revocation names what there is not: in a hurry a
// slip of the finger must not look like success. A client that was removed from the
// configuration has nothing left to end.
func (c controlled) known(r *control.Revocation) error {
	cfg := c.g.now.Load().cfg
	if r.Client != "" && !slices.ContainsFunc(cfg.Clients, func(cl config.Client) bool { return cl.ID == r.Client }) {
		return fmt.Errorf("there is no client %q; knockgw clients lists them", r.Client)
	}
	if r.Service != "" && c.g.now.Load().services[r.Service] == nil {
		return fmt.Errorf("there is no service %q; knockgw check lists them", r.Service)
	}
	return nil
}

// revokedSource is what a revocation says of sources.
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

// Unban implements control.Operation.
func (c controlled) Unban(source netip.Prefix, operator string) int {
	p := c.g.running.Load()
	if p == nil {
		return 0
	}
	n := p.gate.Pardon(source)
	c.g.audit.Add(audit.Event{Kind: audit.Unban, Operator: operator, Source: source.String(), Reason: fmt.Sprintf("%d bans", n)})
	c.g.log.Info("bans ended", "by", operator, "source", source, "bans", n)
	return n
}
