package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/tun"
)

// The kernel's packet filter drops what the gate would drop. Without it, the
// gateway drops the same packets at the cost of reading them.

// errNoFilter is the reason why a device of an embedding program has no filter.
var errNoFilter = errors.New("the device does not support a packet filter")

const (
	// The filter's table of expected knocks keeps its size until a restart. It
	// has room for expectedGrowth times the knocks expected at the start, and
	// for minExpected: 3,000 clients of a service with every method, in 2 MiB.
	expectedGrowth = 2
	minExpected    = 1 << 16
)

// openFilter loads the filter that the configuration asks for; nil for none.
func openFilter(s *snapshot, device tun.Device, log *slog.Logger) (*filter.Filter, error) {
	if s.cfg.TUN.Filter == config.FilterOff {
		return nil, nil
	}
	if _, ok := device.(tun.FilterAttacher); !ok {
		return nil, withoutFilter(s, log, errNoFilter)
	}
	f, err := filter.Open(filter.Options{
		Flows: s.cfg.Limits.Flows, Sources: admission.DefaultGrants + 2*s.cfg.Limits.Knocks, Policy: s.policy,
		Expected: max(expectedGrowth*s.policy.NumPrecomputed(), minExpected),
	})
	if err != nil {
		return nil, withoutFilter(s, log, err)
	}
	return f, nil
}

// withoutFilter logs why there is no filter, or returns an error if the
// configuration requires one.
func withoutFilter(s *snapshot, log *slog.Logger, reason error) error {
	if s.cfg.TUN.Filter == config.FilterRequire {
		return fmt.Errorf("tun.filter: %w", reason)
	}
	log.Info("no kernel filter: packets are dropped in user space", "reason", reason)
	return nil
}

// mirror returns the filter as the gate's mirror; nil if there is none.
func (in *instance) mirror() admission.Offload {
	if in.filter == nil {
		return nil
	}
	return in.filter
}

// attachFilter attaches the filter, which has the gate's state, to the device,
// which is not read yet.
func (in *instance) attachFilter() error {
	if in.filter == nil {
		return nil
	}
	err := in.device.(tun.FilterAttacher).AttachFilter(in.filter.FD())
	if err == nil {
		in.filterAttached = true
		return nil
	}
	// The gate continues to update it; once closed, it ignores that.
	return errors.Join(in.filter.Close(), withoutFilter(in.snapshots.current.Load(), in.o.Log, err))
}

// capacityWarning returns a warning if a policy expects more knocks than the
// filter has room for; "" otherwise.
func (in *instance) capacityWarning(p *policy.Policy) string {
	if !in.filterAttached || p.NumPrecomputed() <= in.filter.Capacity() {
		return ""
	}
	return fmt.Sprintf("the kernel's filter has room for %d expected SYN and udp-v2 knocks, as of the start of the gateway, and %d are expected: "+
		"until a restart it passes every packet that could be one",
		in.filter.Capacity(), p.NumPrecomputed())
}

// runFilter advances the filter's clock until ctx ends.
func (in *instance) runFilter(ctx context.Context) error {
	if in.filter == nil {
		return nil
	}
	ticker := time.NewTicker(filter.TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			in.filter.Tick()
		}
	}
}

// closeFilter closes the filter, if there is one.
func (in *instance) closeFilter() error {
	if in.filter == nil {
		return nil
	}
	return in.filter.Close()
}
