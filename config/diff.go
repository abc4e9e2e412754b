package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// Changes are what makes one Config another, by the file's names. There is no
// value in them, and no secret.
type Changes struct {
	Services Difference `json:"services"`
	Clients  Difference `json:"clients"`
	// Keys are the others that differ and hold at once.
	Keys []string `json:"keys"`
	// PendingRestart are those that a running gateway cannot change: they wait for its
	// next start.
	PendingRestart []string `json:"pending_restart"`
}

// Difference is that between two lists: of services by their names, or of clients
// by their ids.
type Difference struct {
	Added   []string  `json:"added"`
	Removed []string  `json:"removed"`
	Changed []Changed `json:"changed"`
}

// Changed is an entry that is in both lists, and the keys that differ.
type Changed struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"`
}

// MarshalJSON writes lists that are empty, too.
func (c Changes) MarshalJSON() ([]byte, error) {
	type plain Changes
	c.Keys, c.PendingRestart = present(c.Keys), present(c.PendingRestart)
	return json.Marshal(plain(c))
}

// MarshalJSON writes lists that are empty, too.
func (d Difference) MarshalJSON() ([]byte, error) {
	type plain Difference
	d.Added, d.Removed, d.Changed = present(d.Added), present(d.Removed), present(d.Changed)
	return json.Marshal(plain(d))
}

// present is a list that JSON has no null for.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Diff tells what makes old new. The order of services, clients and secrets is no
// difference.
func Diff(old, new *Config) Changes { //nolint:revive // the words for it
	c := Changes{
		Services: differ(old.Services, new.Services, func(s *Service) string { return s.Name }, serviceKeys()),
		Clients:  differ(old.Clients, new.Clients, func(c *Client) string { return c.ID }, clientKeys()),
	}
	for _, k := range configKeys() {
		switch {
		case k.same(old, new):
		case k.restart:
			c.PendingRestart = append(c.PendingRestart, k.name)
		default:
			c.Keys = append(c.Keys, k.name)
		}
	}
	return c
}

// KeepRestart returns new with the keys that wait for a restart as they are in running:
// what a running gateway can make of it.
func KeepRestart(running, new *Config) *Config { //nolint:revive // the words for it
	c := *new
	c.TUN, c.State, c.Control, c.Metrics = running.TUN, running.State, running.Control, running.Metrics
	c.Audit = running.Audit
	c.Limits.Flows, c.Limits.Knocks = running.Limits.Flows, running.Limits.Knocks
	return &c
}

// Empty reports whether there is no difference at all.
func (c *Changes) Empty() bool {
	return c.Services.empty() && c.Clients.empty() && len(c.Keys) == 0 && len(c.PendingRestart) == 0
}

func (d *Difference) empty() bool {
	return len(d.Added) == 0 && len(d.Removed) == 0 && len(d.Changed) == 0
}

// Lines are the changes for people, one a line.
func (c *Changes) Lines() []string {
	lines := append(c.Services.lines("service"), c.Clients.lines("client")...)
	for _, k := range c.Keys {
		lines = append(lines, k+" changed")
	}
	for _, k := range c.PendingRestart {
		lines = append(lines, k+" changed: waits for a restart")
	}
	return lines
}

func (d *Difference) lines(what string) []string {
	var lines []string
	for _, name := range d.Added {
		lines = append(lines, fmt.Sprintf("%s %s added", what, termsafe.Name(name)))
	}
	for _, name := range d.Removed {
		lines = append(lines, fmt.Sprintf("%s %s removed", what, termsafe.Name(name)))
	}
	for _, e := range d.Changed {
		lines = append(lines, fmt.Sprintf("%s %s: %s changed", what, termsafe.Name(e.Name), strings.Join(e.Keys, ", ")))
	}
	return lines
}

// compared is a key of T, and whether two Ts have it in common.
type compared[T any] struct {
	name    string
	same    func(a, b *T) bool
	restart bool
}

// by compares what get returns.
func by[T any](name string, get func(*T) any) compared[T] {
	return compared[T]{name: name, same: func(a, b *T) bool { return reflect.DeepEqual(get(a), get(b)) }}
}

// byRestart is by for a key that waits for a restart.
func byRestart[T any](name string, get func(*T) any) compared[T] {
	k := by(name, get)
	k.restart = true
	return k
}

func configKeys() []compared[Config] {
	return []compared[Config]{
		by("clients_dir", func(c *Config) any { return c.ClientsDir }),
		byRestart("tun.name", func(c *Config) any { return c.TUN.Name }),
		byRestart("tun.mtu", func(c *Config) any { return c.TUN.MTU }),
		byRestart("tun.filter", func(c *Config) any { return c.TUN.Filter }),
		{name: "tun.routes", same: func(a, b *Config) bool { return sameSet(a.TUN.Routes, b.TUN.Routes) }, restart: true},
		{name: "tun.local", same: func(a, b *Config) bool { return sameSet(a.TUN.Local, b.TUN.Local) }, restart: true},
		by("knock.udp_port", func(c *Config) any { return c.Knock.UDPPort }),
		by("knock.window", func(c *Config) any { return c.Knock.Window }),
		by("knock.gateway", func(c *Config) any { return c.Knock.Gateway }),
		by("knock.slot", func(c *Config) any { return c.Knock.Slot }),
		by("knock.sequence", func(c *Config) any { return c.Knock.Sequence }),
		by("limits.grants_per_client", func(c *Config) any { return c.Limits.GrantsPerClient }),
		by("limits.flows_per_client", func(c *Config) any { return c.Limits.FlowsPerClient }),
		by("limits.grants_per_source", func(c *Config) any { return c.Limits.GrantsPerSource }),
		by("limits.flows_per_source", func(c *Config) any { return c.Limits.FlowsPerSource }),
		byRestart("limits.flows", func(c *Config) any { return c.Limits.Flows }),
		byRestart("limits.knocks", func(c *Config) any { return c.Limits.Knocks }),
		by("ban", func(c *Config) any { return c.Ban }),
		byRestart("state.dir", func(c *Config) any { return c.State.Dir }),
		byRestart("control.socket", func(c *Config) any { return c.Control.Socket }),
		byRestart("metrics.listen", func(c *Config) any { return c.Metrics.Listen }),
		byRestart("metrics.page", func(c *Config) any { return c.Metrics.Page != c.Metrics.Listen.Addr().IsLoopback() }), // where it is not the default
		byRestart("audit.file", func(c *Config) any { return c.Audit.File }),
		byRestart("audit.max_mib", func(c *Config) any { return c.Audit.MaxBytes }),
		byRestart("audit.keep", func(c *Config) any { return c.Audit.Keep }),
	}
}

func serviceKeys() []compared[Service] {
	return []compared[Service]{
		{name: "listen", same: func(a, b *Service) bool { return a.Listen == b.Listen && a.Port == b.Port }},
		by("address", func(s *Service) any { return s.Address }),
		by("port", func(s *Service) any { return s.MACPort }),
		by("upstream", func(s *Service) any { return s.Upstream }),
		by("upstream_device", func(s *Service) any { return s.UpstreamDevice }),
		by("mode", func(s *Service) any { return s.Mode }),
		by("visible", func(s *Service) any { return s.Visible }),
		{name: "knock", same: func(a, b *Service) bool { return sameSet(a.Knock, b.Knock) }},
		by("grant", func(s *Service) any { return s.Grant }),
		by("session", func(s *Service) any { return s.SessionRequired }),
		by("auth", func(s *Service) any { return s.Auth }),
		by("idle", func(s *Service) any { return s.Idle }),
		by("dial_timeout", func(s *Service) any { return s.DialTimeout }),
	}
}

// clientKeys are those that the gateway goes by; profile is not.
func clientKeys() []compared[Client] {
	return []compared[Client]{
		{name: "secret", same: sameSecrets},
		{name: "services", same: func(a, b *Client) bool {
			return (a.Services == nil) == (b.Services == nil) && sameSet(a.Services, b.Services)
		}},
		{name: "expires", same: func(a, b *Client) bool { return a.Expires.Equal(b.Expires) }},
		{name: "hours", same: func(a, b *Client) bool { return a.Hours.same(b.Hours) }},
		by("max_grants", func(c *Client) any { return c.MaxGrants }),
		by("max_flows", func(c *Client) any { return c.MaxFlows }),
	}
}

// differ compares two lists by name.
func differ[T any](old, new []T, name func(*T) string, keys []compared[T]) (d Difference) { //nolint:revive // as Diff's
	before := make(map[string]*T, len(old))
	for i := range old {
		before[name(&old[i])] = &old[i]
	}
	for i := range new {
		n := name(&new[i])
		was := before[n]
		if was == nil {
			d.Added = append(d.Added, n)
			continue
		}
		delete(before, n)
		var changed []string
		for _, k := range keys {
			if !k.same(was, &new[i]) {
				changed = append(changed, k.name)
			}
		}
		if changed != nil {
			d.Changed = append(d.Changed, Changed{n, changed})
		}
	}
	for i := range old {
		if n := name(&old[i]); before[n] != nil {
			d.Removed = append(d.Removed, n)
		}
	}
	return d
}

// sameSecrets compares the secrets of two clients, and until when they hold.
func sameSecrets(a, b *Client) bool {
	order := func(s []ClientSecret) []ClientSecret {
		return slices.SortedFunc(slices.Values(s), func(x, y ClientSecret) int {
			return cmp.Or(slices.Compare(x.Secret, y.Secret), x.Until.Compare(y.Until))
		})
	}
	return slices.EqualFunc(order(a.Secrets), order(b.Secrets), func(x, y ClientSecret) bool {
		return slices.Equal(x.Secret, y.Secret) && x.Until.Equal(y.Until)
	})
}

// same reports whether two Hours, either of which may be none, are the same.
func (h *Hours) same(o *Hours) bool {
	if h == nil || o == nil {
		return h == o
	}
	return h.Days == o.Days && h.From == o.From && h.To == o.To && h.Zone.String() == o.Zone.String()
}

// sameSet reports whether two lists have the same elements, in whatever order.
func sameSet[T comparable](a, b []T) bool {
	in := func(all []T) func(T) bool {
		set := make(map[T]bool, len(all))
		for _, e := range all {
			set[e] = true
		}
		return func(e T) bool { return !set[e] }
	}
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}
