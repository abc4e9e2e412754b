package observe

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

// pageStatus returns the current state for the status page.
func (ob *Observer) pageStatus() statuspage.Status {
	cfg := ob.o.Config()
	s := statuspage.Status{Version: buildinfo.This().Version, Started: ob.started, Device: cfg.TUN.Name}

	flowsOf := make(map[string]int) // by service
	all := NewestFlows(ob.o.Flows)
	s.Flows, s.Remaining = len(all), max(0, len(all)-statuspage.MaxSessions)
	for _, f := range all {
		flowsOf[f.Service]++
	}
	for _, f := range all[:min(len(all), statuspage.MaxSessions)] {
		up, down := f.Bytes()
		s.Sessions = append(s.Sessions, statuspage.Session{
			Client: f.Client(), Source: f.Key.Client.String(), Service: f.Service, Upstream: f.Upstream,
			Age: time.Since(f.Started), Received: up, Sent: down,
		})
	}

	for _, r := range cfg.Table() {
		visible := "nothing"
		switch {
		case r.Visible:
			visible = "an open port"
		case ob.Bypass.Open():
			visible = "unknown: packets bypass the gateway"
		}
		s.Services = append(s.Services, statuspage.Service{
			Name: r.Service, Listen: r.Listen, Mode: string(r.Mode), VisibleAs: visible,
			Knock: cmp.Or(strings.Join(r.Knock, ", "), "-"), Auth: cmp.Or(strings.Join(r.Auth, ", "), "-"),
			Clients: r.NumClients, Flows: flowsOf[r.Service],
		})
	}

	if t := ob.running.Load(); t != nil {
		stats := t.Gate.Stats()
		s.Ready, s.Filtered, s.Device = len(ob.HostProblems()) == 0, t.FilterAttached, deviceName(t.Device)
		s.Grants, s.Sources, s.Banned = stats.Grants, stats.Sources, stats.Bans
	}
	return s
}

// NewestFlows returns all flows, the newest first.
func NewestFlows(t *flows.Table) []*flows.Flow {
	all := t.All()
	slices.SortFunc(all, func(a, b *flows.Flow) int { return b.Started.Compare(a.Started) })
	return all
}

// pageCounts returns the counts that the status page plots.
func (ob *Observer) pageCounts() statuspage.Counts {
	totals := ob.o.Flows.Totals()
	c := statuspage.Counts{Received: totals.Up, Sent: totals.Down, Flows: ob.o.Flows.Len(), AuthsDenied: ob.Metrics.authFailed.Load()}
	t := ob.running.Load()
	if t == nil {
		return c
	}

	stats := t.Gate.Stats()
	for _, n := range stats.Packets {
		if n.Action == admission.Drop {
			c.Dropped += n.Count
		}
	}
	for _, n := range stats.Knocks {
		switch n.Result {
		case knock.OK:
			c.Knocks += n.Count
		case knock.Incomplete, knock.Repeated:
		default:
			c.KnocksDenied += n.Count
		}
	}
	for _, n := range t.filterCounts() {
		c.DroppedInKernel += n.Packets
	}
	return c
}
