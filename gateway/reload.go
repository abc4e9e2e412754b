package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/gateconfig"
)

// A reload in order. Everything that may fail comes before the first effect
// that is visible outside.
//
//	load      and validate: the caller, or Options.Load
//	stage     keys that need a restart keep their values; what depends on them is
//	          rejected. Policy, services and listeners of new services are created
//	          beside the current ones
//	listen    in the stack, on the ports of new open services
//	swap      filter: pass everything; gate: apply the new policy, then revoke;
//	          filter: resume
//	close     ports and listeners that are no longer needed

var (
	// ErrNotRunning reports that the gateway is not ready yet, or is stopping.
	ErrNotRunning = errors.New("gateway: not running: starting or stopping")
	// errNoLoad reports that there is no source to load.
	errNoLoad = errors.New("gateway: no file to load: set Options.Load")
)

// byProgram names the operator of reloads that do not come from the control
// socket.
const byProgram = "the program itself (knockgw run: SIGHUP)"

// Reload applies another configuration while the gateway runs, and returns what
// has changed. Flows of services that remain are not affected. Flows of
// services that were removed or moved, and those of removed clients, secrets
// and permissions, are reset at once. Keys that cannot be changed while it runs
// keep their values: Changes.PendingRestart names them. After an error nothing
// has changed; ErrNotRunning is one. Reloads wait for one another.
func (g *Gateway) Reload(cfg *config.Config) (config.Changes, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	done, err := g.reload(cfg)
	g.reportReload(done, byProgram, err)
	return done.changes, err
}

// ReloadFromSource is Reload with the configuration that Options.Load returns.
// An error of that is a rejected reload, which is logged and counted.
func (g *Gateway) ReloadFromSource() (config.Changes, error) {
	done, _, err := g.reloadFromSource(byProgram)
	return done.changes, err
}

// DryRun returns what ReloadFromSource would change, and the configuration, or
// why it would be rejected. It changes nothing.
func (g *Gateway) DryRun() (config.Changes, *config.Config, error) {
	result, cfg, err := g.dryRun()
	return result.changes, cfg, err
}

// reloadResult is what a reload did, or would do.
type reloadResult struct {
	changes config.Changes
	ended   admission.Revocation
	warning string // what works worse until a restart; may be empty
}

// reloadFromSource is ReloadFromSource for an operator, who is named in the
// audit.
func (g *Gateway) reloadFromSource(operator string) (done reloadResult, cfg *config.Config, err error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if cfg, err = g.load(); err == nil {
		done, err = g.reload(cfg)
	}
	g.reportReload(done, operator, err)
	return done, cfg, err
}

func (g *Gateway) load() (*config.Config, error) {
	if g.o.Load == nil {
		return nil, errNoLoad
	}
	return g.o.Load()
}

func (g *Gateway) dryRun() (result reloadResult, cfg *config.Config, err error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if cfg, err = g.load(); err != nil {
		return reloadResult{}, nil, err
	}
	in := g.running.Load()
	if in == nil {
		return reloadResult{}, nil, ErrNotRunning
	}
	next, changes, err := g.stage(in, cfg)
	if err != nil {
		return reloadResult{changes: changes}, cfg, err
	}
	return reloadResult{changes: changes, warning: in.capacityWarning(next.policy)}, cfg, nil
}

// stage creates the snapshot of cfg beside the current one. The caller holds
// g.reloading.
func (g *Gateway) stage(in *instance, cfg *config.Config) (*snapshot, config.Changes, error) {
	current := g.snapshots.current.Load()
	changes := config.Diff(current.cfg, cfg)
	possible := config.KeepStatic(current.cfg, cfg)
	if g.o.Device == nil {
		if !slices.Equal(possible.LocalUDP(), current.cfg.LocalUDP()) {
			return nil, changes, errors.New("knock.udp_port is hidden together with the ports of tun.local at the start, and changes only with a restart: restart the gateway")
		}
		if err := errors.Join(checkRoutes(possible), checkUpstreams(possible, in.deviceName()), checkUpstreamLinks(possible, g.routes.UpstreamLinks)); err != nil {
			return nil, changes, err
		}
	}

	next, err := newSnapshot(possible, current, g.o.Now)
	if err != nil {
		return nil, changes, err
	}
	for _, s := range next.services {
		s.bindGate(in.gate, in.replay)
	}
	return next, changes, nil
}

// reload applies a configuration. The caller holds g.reloading.
func (g *Gateway) reload(cfg *config.Config) (reloadResult, error) {
	in := g.running.Load()
	if in == nil {
		return reloadResult{}, ErrNotRunning
	}
	next, changes, err := g.stage(in, cfg)
	if err != nil {
		return reloadResult{}, err
	}
	prev := g.snapshots.current.Load()
	if err := in.stack.SetOpenPorts(append(prev.openPorts(), next.openPorts()...)); err != nil {
		return reloadResult{}, err
	}
	done := reloadResult{changes: changes, warning: in.capacityWarning(next.policy), ended: g.swap(in, next)}
	if err := in.stack.SetOpenPorts(next.openPorts()); err != nil {
		return done, fmt.Errorf("close ports: %w", err) // the stack is closed and has none
	}

	prev.closeListeners(next)
	g.observer.LastSeen.Retain(next.clients())
	for _, name := range changes.Services.Removed {
		g.observer.Metrics.Forget(name)
	}
	g.pendingRestart.Store(&changes.PendingRestart)
	return done, nil
}

// swap makes the next snapshot the current one, and returns what that revoked.
func (g *Gateway) swap(in *instance, next *snapshot) (ended admission.Revocation) {
	apply := func() {
		g.snapshots.staged.Store(next)
		in.gate.SetLimits(gateconfig.Limits(&next.cfg.Limits), admission.Ban(next.cfg.Ban))
		ended = in.gate.SetPolicy(next.policy)
		g.snapshots.current.Store(next)
		g.snapshots.staged.Store(nil)
	}
	if !in.filterAttached {
		apply()
	} else if err := in.filter.SetPolicy(next.policy, apply); err != nil {
		g.o.Log.Warn("cannot apply the new services to the kernel's filter; it passes every packet until the next reload", "err", err)
	}
	return ended
}

// maxReloadLines is the maximum number of lines about one reload in the log.
const maxReloadLines = 32

// reportReload counts, records and logs a reload. The caller holds g.reloading.
func (g *Gateway) reportReload(done reloadResult, operator string, err error) {
	if errors.Is(err, ErrNotRunning) { // the configuration was not read
		g.o.Log.Info("not reloaded: the gateway is starting or stopping")
		return
	}
	g.observer.Metrics.Reloaded(err, g.o.Now())
	g.observer.Audit.Reload(&done.changes, done.ended, operator, err)
	if err != nil {
		lines := errlist.Errors(err)
		for _, line := range lines[:min(len(lines), maxReloadLines)] {
			g.o.Log.Error("configuration rejected; keeping the previous one", "err", line)
		}
		return
	}

	c := &done.changes
	attrs := []any{"operator", operator, "flows_ended", done.ended.Flows, "grants_ended", done.ended.Grants}
	for _, list := range []struct {
		key    string
		values []string
	}{
		{"services_added", c.Services.Added}, {"services_removed", c.Services.Removed}, {"services_changed", names(c.Services.Changed)},
		{"clients_added", c.Clients.Added}, {"clients_removed", c.Clients.Removed}, {"clients_changed", names(c.Clients.Changed)},
		{"keys_changed", c.Keys}, {"pending_restart", c.PendingRestart},
	} {
		if len(list.values) > maxReloadLines {
			attrs = append(attrs, slog.Int(list.key, len(list.values)))
		} else if len(list.values) > 0 {
			attrs = append(attrs, slog.Any(list.key, list.values))
		}
	}
	g.o.Log.Info("configuration reloaded", attrs...)
	if done.warning != "" {
		g.o.Log.Warn(done.warning)
	}
}

func names(all []config.Changed) []string {
	var n []string
	for _, c := range all {
		n = append(n, c.Name)
	}
	return n
}
