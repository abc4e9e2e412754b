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

// Changes are the differences between two Configs, as names of keys. They
// contain no values, and so no secrets.
type Changes struct {
	Services Difference `json:"services"`
	Clients  Difference `json:"clients"`
	// Keys are other keys whose changes take effect immediately.
	Keys []string `json:"keys"`
	// PendingRestart are keys that a running gateway cannot change: they wait
	// for its next start.
	PendingRestart []string `json:"pending_restart"`
}

// Difference is the difference between two lists, of services by name or of
// clients by id.
type Difference struct {
	Added   []string  `json:"added"`
	Removed []string  `json:"removed"`
	Changed []Changed `json:"changed"`
}

// Changed is an entry of both lists, and the keys that differ.
type Changed struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"`
}

// MarshalJSON encodes empty lists as [].
func (c Changes) MarshalJSON() ([]byte, error) {
	type plain Changes
	c.Keys, c.PendingRestart = nonNil(c.Keys), nonNil(c.PendingRestart)
	return json.Marshal(plain(c))
}

// MarshalJSON encodes empty lists as [].
func (d Difference) MarshalJSON() ([]byte, error) {
	type plain Difference
	d.Added, d.Removed, d.Changed = nonNil(d.Added), nonNil(d.Removed), nonNil(d.Changed)
	return json.Marshal(plain(d))
}

// nonNil returns list, or an empty list for nil.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Diff returns the changes from old to new. The order of services, clients and
// secrets is ignored.
func Diff(old, new *Config) Changes { //nolint:revive // old and new are the usual names
	c := Changes{
		Services: diffLists(old.Services, new.Services, func(s *Service) string { return s.Name }, serviceKeys()),
		Clients:  diffLists(old.Clients, new.Clients, func(c *Client) string { return c.ID }, clientKeys()),
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

// KeepStatic returns new with those keys of running that a running gateway
// cannot change.
func KeepStatic(running, new *Config) *Config { //nolint:revive // old and new are the usual names
	c := *new
	c.TUN, c.State, c.Control, c.Metrics = running.TUN, running.State, running.Control, running.Metrics
	c.Audit = running.Audit
	c.Limits.Flows, c.Limits.Knocks = running.Limits.Flows, running.Limits.Knocks
	return &c
}

// Empty reports whether there are no changes.
func (c *Changes) Empty() bool {
	return c.Services.empty() && c.Clients.empty() && len(c.Keys) == 0 && len(c.PendingRestart) == 0
}

func (d *Difference) empty() bool {
	return len(d.Added) == 0 && len(d.Removed) == 0 && len(d.Changed) == 0
}

// Lines returns the changes as text, one per line.
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

// comparedKey is a key of T, and a function that compares it.
type comparedKey[T any] struct {
	name    string
	same    func(a, b *T) bool
	restart bool
}

// liveKey is a key whose change takes effect immediately. It compares the
// results of get.
func liveKey[T any](name string, get func(*T) any) comparedKey[T] {
	return comparedKey[T]{name: name, same: func(a, b *T) bool { return reflect.DeepEqual(get(a), get(b)) }}
}

// staticKey is a key whose change waits for a restart.
func staticKey[T any](name string, get func(*T) any) comparedKey[T] {
	k := liveKey(name, get)
	k.restart = true
	return k
}

func configKeys() []comparedKey[Config] {
	return []comparedKey[Config]{
		liveKey("clients_dir", func(c *Config) any { return c.ClientsDir }),
		staticKey("tun.name", func(c *Config) any { return c.TUN.Name }),
		staticKey("tun.mtu", func(c *Config) any { return c.TUN.MTU }),
		staticKey("tun.filter", func(c *Config) any { return c.TUN.Filter }),
		{name: "tun.routes", same: func(a, b *Config) bool { return sameSet(a.TUN.Routes, b.TUN.Routes) }, restart: true},
		{name: "tun.local", same: func(a, b *Config) bool { return sameSet(a.TUN.Local, b.TUN.Local) }, restart: true},
		liveKey("knock.udp_port", func(c *Config) any { return c.Knock.UDPPort }),
		liveKey("knock.window", func(c *Config) any { return c.Knock.Window }),
		liveKey("knock.gateway", func(c *Config) any { return c.Knock.Gateway }),
		liveKey("knock.slot", func(c *Config) any { return c.Knock.Slot }),
		liveKey("knock.sequence", func(c *Config) any { return c.Knock.Sequence }),
		liveKey("limits.grants_per_client", func(c *Config) any { return c.Limits.GrantsPerClient }),
		liveKey("limits.flows_per_client", func(c *Config) any { return c.Limits.FlowsPerClient }),
		liveKey("limits.grants_per_source", func(c *Config) any { return c.Limits.GrantsPerSource }),
		liveKey("limits.flows_per_source", func(c *Config) any { return c.Limits.FlowsPerSource }),
		staticKey("limits.flows", func(c *Config) any { return c.Limits.Flows }),
		staticKey("limits.knocks", func(c *Config) any { return c.Limits.Knocks }),
		liveKey("ban", func(c *Config) any { return c.Ban }),
		staticKey("state.dir", func(c *Config) any { return c.State.Dir }),
		staticKey("control.socket", func(c *Config) any { return c.Control.Socket }),
		staticKey("metrics.listen", func(c *Config) any { return c.Metrics.Listen }),
		staticKey("metrics.page", func(c *Config) any { return c.Metrics.Page != c.Metrics.Listen.Addr().IsLoopback() }), // whether it is not the default
		staticKey("audit.file", func(c *Config) any { return c.Audit.File }),
		staticKey("audit.max_mib", func(c *Config) any { return c.Audit.MaxBytes }),
		staticKey("audit.keep", func(c *Config) any { return c.Audit.Keep }),
	}
}

func serviceKeys() []comparedKey[Service] {
	return []comparedKey[Service]{
		{name: "listen", same: func(a, b *Service) bool { return a.Listen == b.Listen && a.Port == b.Port }},
		liveKey("address", func(s *Service) any { return s.Address }),
		liveKey("port", func(s *Service) any { return s.MACPort }),
		liveKey("upstream", func(s *Service) any { return s.Upstream }),
		liveKey("upstream_device", func(s *Service) any { return s.UpstreamDevice }),
		liveKey("mode", func(s *Service) any { return s.Mode }),
		liveKey("visible", func(s *Service) any { return s.Visible }),
		{name: "knock", same: func(a, b *Service) bool { return sameSet(a.Knock, b.Knock) }},
		liveKey("grant", func(s *Service) any { return s.Grant }),
		liveKey("session", func(s *Service) any { return s.SessionRequired }),
		liveKey("auth", func(s *Service) any { return s.Auth }),
		liveKey("idle", func(s *Service) any { return s.Idle }),
		liveKey("dial_timeout", func(s *Service) any { return s.DialTimeout }),
	}
}

// clientKeys returns the keys that affect the gateway, which profile does not.
func clientKeys() []comparedKey[Client] {
	return []comparedKey[Client]{
		{name: "secret", same: sameSecrets},
		{name: "services", same: func(a, b *Client) bool {
			return (a.Services == nil) == (b.Services == nil) && sameSet(a.Services, b.Services)
		}},
		{name: "expires", same: func(a, b *Client) bool { return a.Expires.Equal(b.Expires) }},
		{name: "hours", same: func(a, b *Client) bool { return a.Hours.equal(b.Hours) }},
		liveKey("max_grants", func(c *Client) any { return c.MaxGrants }),
		liveKey("max_flows", func(c *Client) any { return c.MaxFlows }),
	}
}

// diffLists compares two lists by name.
func diffLists[T any](old, new []T, name func(*T) string, keys []comparedKey[T]) (d Difference) { //nolint:revive // as Diff's
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

// sameSecrets compares the secrets of two clients and their ends.
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

// equal reports whether two Hours, which may be nil, are the same.
func (h *Hours) equal(o *Hours) bool {
	if h == nil || o == nil {
		return h == o
	}
	return h.Days == o.Days && h.From == o.From && h.To == o.To && h.Zone.String() == o.Zone.String()
}

// sameSet reports whether two lists have the same elements, in any order.
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
