package gateway

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/build"
	"github.com/knockgw/knockgw/statuspage"
)

// What the listener of the metrics says besides them: the page for people, and
// whether the gateway is ready for machines.

// pageStatus is what the status page shows of this moment.
func (g *Gateway) pageStatus() statuspage.Status {
	now := g.now.Load()
	s := statuspage.Status{Version: build.This().Version, Started: g.started, Device: now.cfg.TUN.Name}
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
		if r.Visible {
			see = "an open port"
		}
		s.Services = append(s.Services, statuspage.Service{
			Name: r.Service, Listen: r.Listen, Mode: string(r.Mode), StrangersSee: see,
			Knock: cmp.Or(strings.Join(r.Knock, ", "), "-"), Auth: cmp.Or(strings.Join(r.Auth, ", "), "-"),
			Clients: len(r.Clients), Flows: per[r.Service],
		})
	}
	if p := g.running.Load(); p != nil {
		stats := p.gate.Stats()
		s.Ready, s.Filtered, s.Device = true, p.filtering, p.device.Info().Name
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
		case admission.KnockOK:
			c.Knocks += n.Count
		case admission.KnockPart, admission.KnockRepeat:
		default:
			c.KnocksRefused += n.Count
		}
	}
	for _, n := range p.dropped() {
		c.RefusedEarlier += n.Packets
	}
	return c
}

// health is what readiness depends on besides the gateway itself.
type health struct {
	storeFailed atomic.Int64 // when the replay store last could not write, in Unix nanoseconds; 0: never

	mu       sync.Mutex
	resolved time.Time // when upstreams were last looked up
	missing  []string  // those that could not be
}

const (
	// storeMemory is for how long a failure of the replay store makes the gateway
	// not ready: longer than scrapers usually wait, and until the next knock.
	storeMemory = time.Minute
	// resolveEvery and resolveTime bound what readiness asks of name servers.
	resolveEvery = 15 * time.Second
	resolveTime  = 2 * time.Second
)

// problems are why the gateway is not ready.
func (g *Gateway) problems(ctx context.Context) []string {
	if g.running.Load() == nil {
		return []string{"the gateway is starting or stopping"}
	}
	var list []string
	if at := g.health.storeFailed.Load(); at != 0 && g.o.Now().Sub(time.Unix(0, at)) < storeMemory {
		list = append(list, "the replay store cannot be written: knocks are refused")
	}
	return append(list, g.health.unresolved(ctx, g.now.Load().cfg)...)
}

// unresolved looks up the names of upstreams, now and then.
func (h *health) unresolved(ctx context.Context, cfg *config.Config) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.resolved) < resolveEvery {
		return h.missing
	}
	// Whoever asks may give up; the answer is for others too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTime)
	defer cancel()
	h.missing = nil
	seen := make(map[string]bool)
	for i := range cfg.Services {
		host := cfg.Services[i].Upstream.Host
		if _, err := netip.ParseAddr(host); host == "" || err == nil || seen[host] {
			continue
		}
		seen[host] = true
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			h.missing = append(h.missing, fmt.Sprintf("service %s: its upstream's name cannot be resolved", cfg.Services[i].Name))
		}
	}
	h.resolved = time.Now()
	return h.missing
}

// answerReady answers whether the gateway is ready: 200, or 503 and why not.
func (g *Gateway) answerReady(w http.ResponseWriter, r *http.Request) {
	problems := g.problems(r.Context())
	if len(problems) == 0 {
		fmt.Fprintln(w, "ok")
		return
	}
	http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
}
