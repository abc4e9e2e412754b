package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/tun"
)

// The filter in front of the gate, where there may be one. A gateway without it
// refuses the same packets, at the price of reading them.

// errNoFilterer says that a device takes no filter: one of the embedding program.
var errNoFilterer = errors.New("the device takes no packet filter")

const (
	// The filter's table of expected knocks keeps the size that it has at the start,
	// so it has room for expectedGrowth times as many, and for fewestExpected: 3,000
	// clients of a service with every method, in two megabytes.
	expectedGrowth = 2
	fewestExpected = 1 << 16
)

// openFilter makes the filter that the configuration asks for; nil where there is
// none.
func (g *Gateway) openFilter(device tun.Device) (*filter.Filter, error) {
	now := g.now.Load()
	if now.cfg.TUN.Filter == config.FilterOff {
		return nil, nil
	}
	if _, ok := device.(tun.FilterAttacher); !ok {
		return nil, g.unfiltered(errNoFilterer)
	}
	flows, sources := now.cfg.Limits.Flows, admission.DefaultGrants+2*now.cfg.Limits.Knocks
	f, err := filter.Open(filter.Options{
		Flows: flows, Sources: sources, Policy: now.policy,
		Expected: max(expectedGrowth*now.policy.NumPrecomputed(), fewestExpected),
	})
	if err != nil {
		return nil, g.unfiltered(err)
	}
	return f, nil
}

// unfiltered says why there is no filter: in the log, or by an error where one is
// required.
func (g *Gateway) unfiltered(why error) error {
	if g.now.Load().cfg.TUN.Filter == config.FilterRequire {
		return fmt.Errorf("tun.filter: %w", why)
	}
	g.log.Info("packets are refused in user space", "reason", why)
	return nil
}

// mirror is the filter as the gate knows it.
func (p *parts) mirror() admission.Mirror {
	if p.filter == nil {
		return nil
	}
	return p.filter
}

// attachFilter puts the filter, which the gate has told all it knows, in front of
// the device, which nobody reads yet.
func (p *parts) attachFilter() error {
	if p.filter == nil {
		return nil
	}
	err := p.device.(tun.FilterAttacher).AttachFilter(p.filter.FD())
	if err == nil {
		p.filtering = true
		return nil
	}
	// The gate goes on telling it; closed, it does not listen.
	return errors.Join(p.filter.Close(), p.g.unfiltered(err))
}

// crowding says that next expects more knocks than the filter has room for; "" if not.
func (p *parts) crowding(next *policy.Policy) string {
	if !p.filtering || next.NumPrecomputed() <= p.filter.Capacity() {
		return ""
	}
	return fmt.Sprintf("SYN knocks and udp-v2: %d are expected at a time, and the kernel's filter has room for %d, as the gateway was started: until a restart the process judges whatever could be one",
		next.NumPrecomputed(), p.filter.Capacity())
}

// runFilter is the filter's clock.
func (p *parts) runFilter(ctx context.Context) error {
	if p.filter == nil {
		return nil
	}
	ticker := time.NewTicker(filter.TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			p.filter.Tick()
		}
	}
}

// closeFilter gives back what openFilter took.
func (p *parts) closeFilter() error {
	if p.filter == nil {
		return nil
	}
	return p.filter.Close()
}

// dropped is what the filter has counted; nil where there is none, or no longer.
func (p *parts) dropped() []filter.Count {
	if p.filter == nil {
		return nil
	}
	counts, err := p.filter.Counts()
	if err != nil {
		return nil
	}
	return counts
}
