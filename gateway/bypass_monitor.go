package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

// The host's configuration may let packets bypass the gateway, or keep clients out,
// whatever the gateway itself does: a rule before ours, a route in our table,
// forwarding that is off. All of it is evaluated at the start, which is refused where
// a protected address would be open, and on every change that the kernel announces.

// ErrBypassed says that unauthorized hosts would reach protected addresses past the
// gateway, or be answered for them by the host, or that the host needs one itself.
var ErrBypassed = errors.New("packets would bypass the gateway")

const (
	// bypassEvery is how often the host is examined without a change: the kernel does
	// not announce each setting.
	bypassEvery = 30 * time.Second
	// bypassPause is the least time between two examinations, and bypassShare how many
	// times longer than an examination the pause after it is: on a router with a
	// million routes one takes a second.
	bypassPause = time.Second
	bypassShare = 10
)

// bypass is what is known of it.
type bypassMonitor struct {
	found  atomic.Pointer[[]bypass.Problem]
	failed bool // at the last examination; runBypass alone uses it
}

// problems are those of readiness.
func (b *bypassMonitor) problems() []string {
	found := b.found.Load()
	if found == nil {
		return nil
	}
	var all []string
	for _, p := range *found {
		if p.Severity != bypass.Unknown {
			all = append(all, p.String())
		}
	}
	return all
}

// open reports whether packets bypass the gateway.
func (b *bypassMonitor) open() bool {
	found := b.found.Load()
	return found != nil && len(bypass.Filter(*found, bypass.Open)) > 0
}

// examine evaluates the host for a device that is called name now.
func (g *Gateway) examine(name string) ([]bypass.Problem, error) {
	protected := bypass.ProtectedBy(g.now.Load().cfg)
	protected.Device, protected.Routes, protected.HostPorts = name, g.hold.Routes(), g.hold.HostPorts()
	s, err := bypass.Read(protected)
	if err != nil {
		return nil, err
	}
	return bypass.Evaluate(s, protected), nil
}

// checkOwnAddresses refuses, before anything is touched, to take the host's own
// addresses from it.
func (g *Gateway) checkOwnAddresses() error {
	if !routing.RoutesManaged {
		return nil
	}
	protected := bypass.ProtectedBy(g.now.Load().cfg)
	s, err := bypass.Read(protected)
	if err != nil {
		return fmt.Errorf("examine the addresses of this host: %w", err)
	}
	return refusal(bypass.OwnAddresses(s, protected))
}

// refusal is the error of a start on a host with these problems; nil for none.
func refusal(open []bypass.Problem) error {
	if len(open) == 0 {
		return nil
	}
	lines := make([]string, len(open))
	for i := range open {
		lines[i] = open[i].String()
	}
	return fmt.Errorf("%w: %s", ErrBypassed, few(lines))
}

// checkBypass refuses to start where a protected address would be open. What keeps
// clients out is logged, and shows in readiness.
func (g *Gateway) checkBypass(device tun.Device) error {
	if !routing.RoutesManaged {
		return nil
	}
	found, err := g.examine(device.Info().Name)
	if err != nil {
		return fmt.Errorf("examine the routes of this host: %w", err)
	}
	if err := refusal(bypass.Filter(found, bypass.Open)); err != nil {
		return err
	}
	g.keepBypass(found)
	return nil
}

// keepBypass keeps what was found, and logs what is new.
func (g *Gateway) keepBypass(found []bypass.Problem) {
	var before []bypass.Problem
	if all := g.bypass.found.Swap(&found); all != nil {
		before = *all
	}
	logged := 0
	for _, p := range found {
		if slices.Contains(before, p) {
			continue
		}
		if logged++; logged > missingTold {
			g.log.Error("there are more problems like these: knockgw doctor lists all", "count", len(found))
			break
		}
		switch p.Severity {
		case bypass.Open:
			g.log.Error("packets bypass the gateway", "protected", p.Subject, "found", p.Message, "remedy", p.Remedy)
		case bypass.Unusable:
			g.log.Error("clients cannot reach the gateway", "protected", p.Subject, "found", p.Message, "remedy", p.Remedy)
		default:
			g.log.Warn("the host could not be examined in full", "protected", p.Subject, "found", p.Message, "remedy", p.Remedy)
		}
	}
	if len(before) > 0 && len(found) == 0 {
		g.log.Info("nothing bypasses the gateway or keeps clients out any more")
	}
}

// runBypass examines the host whenever it changes, until ctx ends.
func (p *parts) runBypass(ctx context.Context) error {
	if _, ok := p.device.(tun.FilterAttacher); !ok || !routing.RoutesManaged {
		return nil // a device without an interface, or a system that cannot be examined
	}
	changes, err := routing.NewRouteMonitor()
	if err != nil {
		p.g.log.Warn("changes of the host's network cannot be heard: it is examined from time to time only", "every", bypassEvery, "error", err)
	} else {
		defer func() { _ = changes.Close() }()
	}
	for {
		began := time.Now()
		again := p.lookForBypass()
		if !sleep(ctx, max(bypassPause, bypassShare*time.Since(began))) {
			return nil
		}
		if again {
			continue
		}
		if changes == nil {
			if !sleep(ctx, bypassEvery) {
				return nil
			}
			continue
		}
		more, err := changes.Wait(ctx, bypassEvery)
		if err != nil {
			p.g.log.Warn("changes of the host's network are no longer heard: it is examined from time to time only", "every", bypassEvery, "error", err)
			_ = changes.Close()
			changes = nil
		} else if !more {
			return nil
		}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// lookForBypass examines the host. It reports whether to do so again without waiting
// for a change: while routes of ours are missing, which runIntact reports and another
// process restores.
func (p *parts) lookForBypass() (again bool) {
	g, name := p.g, p.deviceName()
	if g.o.Device == nil {
		if missing, err := g.hold.Verify(name); err != nil || len(missing) > 0 {
			return true
		}
	}
	found, err := g.examine(name)
	if err != nil {
		if !g.bypass.failed {
			g.log.Warn("the host's network cannot be examined", "error", err)
		}
		g.bypass.failed = true
		return false
	}
	g.bypass.failed = false
	g.keepBypass(found)
	return false
}
