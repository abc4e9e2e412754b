package gateway

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/statuspage"
)

// What the listener of the metrics has for people: the page.

// pageStatus is what the status page shows of this moment.
func (g *Gateway) pageStatus() statuspage.Status {
	now := g.now.Load()
	s := statuspage.Status{Version: buildinfo.This().Version, Started: g.started, Device: now.cfg.TUN.Name}
	per := make(map[string]int)
	all := g.newestFlows()
	s.Flows, s.More = len(all), max(0, len(all)-statuspage.MaxSessions)
	for _, f := range all {
		per[f.Service]++
	}
	for _, f := range all[:min(len(all), statuspage.MaxSessions)] {
		up, down := f.Bytes()
		s.Sessions = append(s.Sessions, statuspage.Session{
			Client: f.Client(), Source: f.Key.Client.String(), Service: f.Service, Upstream: f.Upstream,
			For: time.Since(f.Started), Received: up, Sent: down,
		})
	}
	for _, r := range now.cfg.Table() {
		see := "nothing"
		switch {
		case r.Visible:
			see = "an open port"
		case g.bypass.open():
			see = "not known: packets bypass the gateway"
		}
		s.Services = append(s.Services, statuspage.Service{
			Name: r.Service, Listen: r.Listen, Mode: string(r.Mode), StrangersSee: see,
			Knock: cmp.Or(strings.Join(r.Knock, ", "), "-"), Auth: cmp.Or(strings.Join(r.Auth, ", "), "-"),
			Clients: r.NumClients, Flows: per[r.Service],
		})
	}
	if p := g.running.Load(); p != nil {
		stats := p.gate.Stats()
		s.Ready, s.Filtered, s.Device = len(g.hostProblems(p)) == 0, p.filtering, p.deviceName()
		s.Grants, s.Sources, s.Banned = stats.Grants, stats.Sources, stats.Bans
	}
	return s
}

// newestFlows are the flows that there are, the newest first.
func (g *Gateway) newestFlows() []*flows.Flow {
	all := g.flows.All()
	slices.SortFunc(all, func(a, b *flows.Flow) int { return b.Started.Compare(a.Started) })
	return all
}

// pageCounts is what the plots of the status page are made of.
func (g *Gateway) pageCounts() statuspage.Counts {
	t := g.flows.Totals()
	c := statuspage.Counts{Received: t.Up, Sent: t.Down, Flows: g.flows.Len(), AuthsRefused: g.authsRefused.Load()}
	p := g.running.Load()
	if p == nil {
		return c
	}
	stats := p.gate.Stats()
	for _, n := range stats.Packets {
		if n.Action == admission.Drop {
			c.Refused += n.Count
		}
	}
	for _, n := range stats.Knocks {
		switch n.Result {
		case knock.OK:
			c.Knocks += n.Count
		case knock.Incomplete, knock.Repeated:
		default:
			c.KnocksRefused += n.Count
		}
	}
	for _, n := range p.dropped() {
		c.RefusedEarlier += n.Packets
	}
	return c
}
