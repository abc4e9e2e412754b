package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/routing"
)

// Another program may delete the routes and rules while the gateway runs: a restart of
// the network, or a network manager that removes what it has not made. The gateway has
// no privilege left to add them again. Options.Restorer may have one; otherwise, or
// where that fails, Run ends with ErrRoutesLost, so that a service manager restarts the
// gateway. Meanwhile the hidden ports stay hidden: sockets that drop every packet hold
// them.

const (
	// intactEvery is how often the routes and rules are looked at without a change:
	// the kernel does not announce every route that goes.
	intactEvery = 30 * time.Second
	// intactPause is the least time between two looks. Where routes are learnt from
	// neighbours they change all the time.
	intactPause = time.Second
	// restoreTime is how long what leads packets to the gateway may be missing before
	// Run ends: some times what it takes to restore it, and less than clients retry.
	restoreTime = 10 * time.Second
	// intactRemedy says what becomes of it.
	intactRemedy = "they are added again at once where knockgw can; otherwise the gateway ends after 10s, for the service manager to restart it; " +
		"knockgw doctor says more"
)

// ErrRoutesLost says that routes or rules were removed by another program, and that
// nothing has added them again. A restart of the gateway does.
var ErrRoutesLost = errors.New("what leads packets to the gateway was removed by another program and could not be restored")

// intact is what is known of the routes, the rules and the host's own addresses.
type intact struct {
	missing atomic.Pointer[[]string]
	absent  atomic.Pointer[[]string] // addresses of tun.local that are not there yet

	// For the goroutine of runIntact alone.
	failed bool      // at the last look
	since  time.Time // when packets were first cut off; zero while they are not
	name   string    // the interface's, at the last look
}

// problems are those of readiness.
func (i *intact) problems() []string {
	var all []string
	if missing := listed(&i.missing); len(missing) > 0 {
		all = append(all, "what leads packets to the gateway was removed by another program, "+few(missing)+": "+intactRemedy)
	}
	if absent := listed(&i.absent); len(absent) > 0 {
		all = append(all, "waiting for an address of tun.local, and clients cannot reach it: "+few(absent))
	}
	return all
}

func listed(p *atomic.Pointer[[]string]) []string {
	if all := p.Load(); all != nil {
		return *all
	}
	return nil
}

// missingTold is how much of what is missing is told; a restart of the network leaves nothing.
const missingTold = 4

// few writes a list, of which the beginning says enough.
func few(all []string) string {
	text := strings.Join(all[:min(len(all), missingTold)], "; ")
	if more := len(all) - missingTold; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// runIntact looks after the routes and rules until ctx ends. It returns ErrRoutesLost
// when they have been missing for too long.
func (p *parts) runIntact(ctx context.Context) error {
	if p.g.o.Device != nil || !routing.RoutesManaged {
		return nil // the operator has set them
	}
	changes, err := routing.NewRouteMonitor()
	if err != nil {
		p.g.log.Warn("changes of routes cannot be heard: routes are looked at from time to time only", "every", intactEvery, "error", err)
	} else {
		defer func() { _ = changes.Close() }()
	}
	for {
		pause, err := p.lookAtRoutes()
		if err != nil {
			return err
		}
		select {
		case <-time.After(intactPause):
		case <-ctx.Done():
			return nil
		}
		if changes == nil {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		more, err := changes.Wait(ctx, pause)
		if err != nil {
			p.g.log.Warn("changes of routes are no longer heard: routes are looked at from time to time only", "every", intactEvery, "error", err)
			_ = changes.Close()
			changes = nil
		} else if !more {
			return nil
		}
	}
}

// lookAtRoutes finds out what is missing, and logs it where that has changed. It
// returns when to look again at the latest, or ErrRoutesLost.
func (p *parts) lookAtRoutes() (pause time.Duration, err error) {
	g := p.g
	missing, absent, err := p.missingRoutes()
	if err != nil {
		if !g.intact.failed { // routes that always change would fill the log
			g.log.Warn("the routes cannot be looked at", "error", err)
		}
		g.intact.failed = true
		return intactEvery, nil
	}
	g.intact.failed = false
	if len(missing) > 0 && g.o.Confine == nil { // the privileges are still there
		missing, absent = p.restore(missing, absent)
	}
	before := listed(&g.intact.missing)
	g.intact.missing.Store(&missing)
	switch {
	case slices.Equal(before, missing):
	case len(missing) == 0:
		g.log.Info("what leads packets to the gateway is all there again")
	default:
		g.log.Error("what leads packets to the gateway was removed by another program", "missing", few(missing), "remedy", intactRemedy)
	}
	beforeAbsent := listed(&g.intact.absent)
	g.intact.absent.Store(&absent)
	switch {
	case slices.Equal(beforeAbsent, absent):
	case len(absent) == 0:
		g.log.Info("the addresses of tun.local are all there")
	default:
		g.log.Warn("waiting for an address of tun.local: its ports are hidden, and clients get in when it comes", "addresses", few(absent))
	}
	if g.o.Impaired != nil && (!slices.Equal(before, missing) || !slices.Equal(beforeAbsent, absent)) {
		g.o.Impaired(g.intact.problems())
	}
	return p.g.intact.due(missing, time.Now())
}

// restore adds what is missing again, and returns what still is.
func (p *parts) restore(missing, absent []string) (stillMissing, stillAbsent []string) {
	if err := p.g.hold.Restore(p.device.Info().Index); err != nil {
		return missing, absent
	}
	stillMissing, stillAbsent, err := p.missingRoutes()
	if err != nil {
		return missing, absent
	}
	p.g.log.Warn("another program had deleted routes or rules, which were added again", "missing", few(missing))
	return stillMissing, stillAbsent
}

// due returns when to look again, and ErrRoutesLost when packets have been cut off for
// too long.
func (i *intact) due(missing []string, now time.Time) (time.Duration, error) {
	if !slices.ContainsFunc(missing, routing.AffectsTraffic) {
		i.since = time.Time{}
		return intactEvery, nil
	}
	if i.since.IsZero() {
		i.since = now
	}
	if now.Sub(i.since) >= restoreTime {
		return 0, fmt.Errorf("%w: %s; restart the gateway", ErrRoutesLost, few(missing))
	}
	return intactPause, nil
}

// missingRoutes asks the kernel. An interface that was renamed is still ours.
func (p *parts) missingRoutes() (missing, absent []string, err error) {
	g, info := p.g, p.device.Info()
	link, err := info.Interface()
	if err != nil {
		return []string{fmt.Sprintf("the interface %s is gone", info.Name)}, nil, nil
	}
	if before := g.intact.name; before != "" && before != link.Name {
		g.log.Info("the interface was renamed, and is used under its new name", "before", before, "name", link.Name)
	}
	g.intact.name = link.Name
	if missing, err = g.hold.Verify(link.Name); err != nil {
		return nil, nil, err
	}
	absent, err = g.hold.HostPorts().UnavailableAddrs()
	return missing, absent, err
}
