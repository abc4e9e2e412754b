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

// A reload in order: all that may fail comes before the first thing that is seen
// outside.
//
//	load, validate        the caller, or Options.Load
//	what can be changed   keys that wait for a restart stay as they are; what depends
//	                      on them is refused
//	build beside          policy, services, listeners of new services
//	listen                in the stack, on the ports of new open services
//	swap                  filter: everything passes; gate: the new policy, then what it
//	                      revokes; filter: as before
//	shut                  ports and listeners that nobody needs any more

var (
	// ErrNotRunning says that the gateway is not ready yet, or is stopping.
	ErrNotRunning = errors.New("gateway: it is not running: starting, or stopping")
	// errNoLoad says that there is nothing to be loaded anew.
	errNoLoad = errors.New("gateway: there is no file to load: set Options.Load")
)

// Reload puts another configuration in force while the gateway runs, and returns
// what has changed. Flows of services that are still there lose nothing; those of
// services that are gone or at another address, and those of clients, secrets and
// permissions that are gone, end at once with a reset. Keys that cannot be
// changed while it runs stay as they are: Changes.Restart names them. After an error nothing has
// changed. ErrNotRunning is one of them. Reloads wait for one another.
func (g *Gateway) Reload(cfg *config.Config) (config.Changes, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	done, err := g.reload(cfg)
	g.reloaded(done, byProgram, err)
	return done.changes, err
}

// Renew is Reload with what Options.Load returns; an error of that is a reload
// that was refused as well: it is logged and counted.
func (g *Gateway) Renew() (config.Changes, error) {
	done, _, err := g.renew(byProgram)
	return done.changes, err
}

// renewal is what a reload did.
type renewal struct {
	changes config.Changes
	ended   admission.Revocation
	note    string // what falls short until a restart
}

// renew is Renew; operator is who asks, in words for the audit.
func (g *Gateway) renew(operator string) (done renewal, cfg *config.Config, err error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if cfg, err = g.load(); err == nil {
		done, err = g.reload(cfg)
	}
	g.reloaded(done, operator, err)
	return done, cfg, err
}

func (g *Gateway) load() (*config.Config, error) {
	if g.o.Load == nil {
		return nil, errNoLoad
	}
	return g.o.Load()
}

// Rehearse returns what Renew would change, and the configuration, or why it would
// be refused; nothing is changed.
func (g *Gateway) Rehearse() (config.Changes, *config.Config, error) {
	would, cfg, err := g.rehearse()
	return would.changes, cfg, err
}

func (g *Gateway) rehearse() (would renewal, cfg *config.Config, err error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if cfg, err = g.load(); err != nil {
		return renewal{}, nil, err
	}
	p := g.running.Load()
	if p == nil {
		return renewal{}, nil, ErrNotRunning
	}
	next, changes, err := p.prepare(cfg)
	if err != nil {
		return renewal{changes: changes}, cfg, err
	}
	return renewal{changes: changes, note: p.crowding(next.policy)}, cfg, nil
}

// prepare makes the setup that cfg comes down to, beside the one in force. The
// caller holds g.reloading.
func (p *parts) prepare(cfg *config.Config) (*setup, config.Changes, error) {
	now := p.g.now.Load()
	changes := config.Diff(now.cfg, cfg)
	possible := config.KeepStatic(now.cfg, cfg)
	if p.g.o.Device == nil {
		if !slices.Equal(possible.LocalUDP(), now.cfg.LocalUDP()) {
			return nil, changes, errors.New("knock.udp_port is hidden together with the ports of tun.local when the gateway starts, and cannot change before: restart the gateway")
		}
		if err := errors.Join(checkRoutes(possible), checkUpstreams(possible, p.deviceName()), checkInside(possible, p.g.hold.UpstreamLinks)); err != nil {
			return nil, changes, err
		}
	}
	next, err := p.g.newSetup(possible, now)
	if err != nil {
		return nil, changes, err
	}
	for _, s := range next.services {
		s.join(p.gate, p.replay)
	}
	return next, changes, nil
}

// reload is Reload without the words about it.
func (g *Gateway) reload(cfg *config.Config) (renewal, error) {
	p := g.running.Load()
	if p == nil {
		return renewal{}, ErrNotRunning
	}
	next, changes, err := p.prepare(cfg)
	if err != nil {
		return renewal{}, err
	}
	now := g.now.Load()
	if err := p.stack.SetOpenPorts(append(now.openPorts(), next.openPorts()...)); err != nil {
		return renewal{}, err
	}
	done := renewal{changes: changes, note: p.crowding(next.policy)}
	swap := func() {
		g.next.Store(next)
		p.gate.SetLimits(gateconfig.Limits(&next.cfg.Limits), admission.Ban(next.cfg.Ban))
		done.ended = p.gate.SetPolicy(next.policy)
		g.now.Store(next)
		g.next.Store(nil)
	}
	if p.filtering {
		if err := p.filter.SetPolicy(next.policy, swap); err != nil {
			g.log.Warn("the kernel's filter did not take the new services; until the next reload every packet is judged in user space", "err", err)
		}
	} else {
		swap()
	}
	if err := p.stack.SetOpenPorts(next.openPorts()); err != nil {
		return done, fmt.Errorf("close ports: %w", err) // the stack is closed: it has none
	}
	now.shut(next)
	g.journal.keep(next.clients())
	for _, name := range changes.Services.Removed {
		g.metrics.forget(name)
	}
	g.waiting.Store(&changes.PendingRestart)
	return done, nil
}

// mostLines bounds the lines about one reload in the log.
const mostLines = 32

// reloaded tells of a reload. The caller holds g.reloading.
func (g *Gateway) reloaded(done renewal, operator string, err error) {
	if errors.Is(err, ErrNotRunning) { // nobody has looked at the configuration
		g.log.Info("not reloaded: the gateway is starting or stopping")
		return
	}
	g.metrics.reloaded(err, g.o.Now())
	g.auditReload(&done, operator, err)
	if err != nil {
		lines := errlist.Errors(err)
		for _, line := range lines[:min(len(lines), mostLines)] {
			g.log.Error("configuration refused; the one before stays in force", "err", line)
		}
		return
	}
	c := &done.changes
	attrs := []any{"by", operator, "flows_ended", done.ended.Flows, "grants_ended", done.ended.Grants}
	for _, list := range []struct {
		name string
		all  []string
	}{
		{"services_added", c.Services.Added}, {"services_removed", c.Services.Removed}, {"services_changed", names(c.Services.Changed)},
		{"clients_added", c.Clients.Added}, {"clients_removed", c.Clients.Removed}, {"clients_changed", names(c.Clients.Changed)},
		{"keys_changed", c.Keys}, {"wait_for_restart", c.PendingRestart},
	} {
		if len(list.all) > mostLines {
			attrs = append(attrs, slog.Int(list.name, len(list.all)))
		} else if len(list.all) > 0 {
			attrs = append(attrs, slog.Any(list.name, list.all))
		}
	}
	g.log.Info("configuration reloaded", attrs...)
	if done.note != "" {
		g.log.Warn(done.note)
	}
}

func names(all []config.Changed) []string {
	var n []string
	for _, c := range all {
		n = append(n, c.Name)
	}
	return n
}
