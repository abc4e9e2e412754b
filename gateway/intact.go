package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/tun"
)

// What leads packets here may be taken away while the gateway runs: by somebody who
// restarts the network, or a network manager that clears away what it has not made.
// Nothing of it can be made again without privileges, so it is said, and everything
// that is the gateway's stays shut: sockets that hear nothing hold the ports of tun.local.

const (
	// intactEvery is how often it is looked whether routes and rules are as they were,
	// changes or not: the kernel does not tell of every route that goes.
	intactEvery = 30 * time.Second
	// intactPause is the least between two looks. Where routes are learnt from
	// neighbours they change all the time.
	intactPause = time.Second
	// intactRemedy is what brings back what is missing.
	intactRemedy = "restart the gateway (systemctl restart knockgw); knockgw doctor says more"
)

// intact is what is known of the routes and rules.
type intact struct {
	missing atomic.Pointer[[]string]
	blind   bool // it could not be told at the last look; runIntact alone uses it
}

// problems are those of readiness.
func (i *intact) problems() []string {
	if all := i.missing.Load(); all != nil && len(*all) > 0 {
		return []string{"what leads packets to the gateway was removed from outside, " + few(*all) + ": " + intactRemedy}
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

// runIntact looks after the routes and rules until ctx ends. What it cannot do is no
// reason to stop: packets pass all the same.
func (p *parts) runIntact(ctx context.Context) error {
	if p.g.o.Device != nil || !tun.RoutesManaged {
		return nil // they are somebody else's
	}
	if err := p.hearChanges(ctx); err != nil {
		p.g.log.Warn("changes of routes are not heard: they are looked at now and then only", "every", intactEvery, "error", err)
	}
	for ctx.Err() == nil {
		p.lookAtRoutes()
		select {
		case <-time.After(intactEvery):
		case <-ctx.Done():
		}
	}
	return nil
}

// hearChanges looks at the routes whenever something has changed, until ctx ends or nothing can be heard.
func (p *parts) hearChanges(ctx context.Context) (err error) {
	changes, err := tun.ListenChanges()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, changes.Close()) }()
	for {
		p.lookAtRoutes()
		select {
		case <-time.After(intactPause):
		case <-ctx.Done():
			return nil
		}
		if more, err := changes.Wait(ctx, intactEvery); err != nil || !more {
			return err
		}
	}
}

// lookAtRoutes finds out what is missing, and logs it where that has changed.
func (p *parts) lookAtRoutes() {
	g, name := p.g, p.device.Info().Name
	missing, err := g.routes.Missing(name)
	if err == nil {
		var more []string
		more, err = g.local.Missing(name)
		missing = append(missing, more...)
	}
	if err != nil {
		if !g.intact.blind { // routes that always change would fill the log
			g.log.Warn("whether the routes are there cannot be told", "error", err)
		}
		g.intact.blind = true
		return
	}
	g.intact.blind = false
	var before []string
	if all := g.intact.missing.Swap(&missing); all != nil {
		before = *all
	}
	switch {
	case slices.Equal(before, missing):
	case len(missing) == 0:
		g.log.Info("what leads packets to the gateway is all there again")
	default:
		g.log.Error("what leads packets to the gateway was removed from outside", "missing", few(missing), "remedy", intactRemedy)
	}
}
