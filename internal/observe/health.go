package observe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/tun"
)

// Health is what readiness depends on besides the gateway itself: the replay
// store and the names of upstreams. As a Sink it notices failures of the replay
// store.
type Health struct {
	noEvents
	now         func() time.Time
	storeFailed atomic.Int64 // when a knock or authentication last failed to be recorded, in Unix nanoseconds; 0: never
	store       storeProbe

	mu         sync.Mutex
	resolved   time.Time // when the upstreams were last resolved
	unresolved []string  // problems
}

const (
	// storeFailedTime is how long a failure of the replay store makes the
	// gateway not ready: longer than the usual scrape interval.
	storeFailedTime = time.Minute
	// storeProbeInterval is the minimum time between two probes of the store.
	storeProbeInterval = 5 * time.Second
	// resolveInterval and resolveTimeout limit the queries to name servers.
	resolveInterval = 15 * time.Second
	resolveTimeout  = 2 * time.Second
)

// Knock implements Sink.
func (h *Health) Knock(e *knock.Event) {
	if e.Result == knock.StoreFailed {
		h.storeFailed.Store(h.now().UnixNano())
	}
}

// Auth implements Sink.
func (h *Health) Auth(e *AuthEvent) {
	if e.Result == auth.ResultStoreFailed {
		h.storeFailed.Store(h.now().UnixNano())
	}
}

// A check is one condition of readiness.
type check struct {
	name     string // a metric label
	problems []string
}

// checks returns all conditions of readiness, in the order in which the gateway
// depends on them.
func (ob *Observer) checks(ctx context.Context) []check {
	list := []check{{name: "running"}, {name: "device"}, {name: "routes"}, {name: "store"}, {name: "upstreams"}}
	t := ob.running.Load()
	if t == nil {
		list[0].problems = []string{"the gateway is starting or stopping"}
		return list
	}
	list[1].problems = problem(t.deviceUp())
	list[2].problems = append(ob.Routes.Problems(), ob.Bypass.Problems()...)
	list[3].problems = problem(ob.Health.StoreWritable(t.Store))
	list[4].problems = ob.Health.resolveUpstreams(ctx, ob.o.Config())
	return list
}

// HostProblems returns the problems of the device and of the host's network,
// without asking other hosts; nil unless the gateway is running.
func (ob *Observer) HostProblems() []string {
	t := ob.running.Load()
	if t == nil {
		return nil
	}
	all := append([]string{}, problem(t.deviceUp())...)
	all = append(all, ob.Routes.Problems()...)
	return append(all, ob.Bypass.Problems()...)
}

func problem(err error) []string {
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}

// deviceUp returns what is wrong with the device's interface. The device of an
// embedding program may have none.
func (t *Target) deviceUp() error {
	info := t.Device.Info()
	if _, ok := t.Device.(tun.FilterAttacher); !ok && !t.Managed {
		return nil
	}
	link, err := info.Interface()
	if err != nil {
		return fmt.Errorf("the interface %s no longer exists: restart the gateway", info.Name)
	}
	if link.Flags&net.FlagUp == 0 {
		return fmt.Errorf("the interface %s is down, and its routes are gone: restart the gateway", link.Name)
	}
	return nil
}

// deviceName returns the current name of a device's interface.
func deviceName(d tun.Device) string {
	info := d.Info()
	if link, err := info.Interface(); err == nil {
		return link.Name
	}
	return info.Name
}

// StoreWritable returns why the replay store cannot be written: as seen with
// recent knocks, or with a probe.
func (h *Health) StoreWritable(store any) error {
	if at := h.storeFailed.Load(); at != 0 && h.now().Sub(time.Unix(0, at)) < storeFailedTime {
		return errors.New("the replay store cannot be written: knocks are denied")
	}
	s, ok := store.(interface{ Writable() error })
	if !ok {
		return nil
	}
	if err := h.store.run(s.Writable); err != nil {
		return fmt.Errorf("the replay store cannot be written, and knocks will be denied: %w", err)
	}
	return nil
}

// storeProbe probes whether the replay store can be written. On a disk that
// hangs, only the caller that probes waits.
type storeProbe struct {
	mu   sync.Mutex // not held during the probe
	at   time.Time  // when the last probe started or ended
	busy bool       // a probe is in progress
	err  error      // of the last completed probe
}

// errStoreTimeout is the result while a probe does not return.
var errStoreTimeout = errors.New("its disk does not respond")

// run returns the result of the last probe, or of a new one if that is old.
func (p *storeProbe) run(probe func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	recent := !p.at.IsZero() && time.Since(p.at) < storeProbeInterval
	switch {
	case recent:
		return p.err
	case p.busy:
		return errStoreTimeout
	}

	p.busy, p.at = true, time.Now()
	p.mu.Unlock()
	err := probe()
	p.mu.Lock()
	p.busy, p.at, p.err = false, time.Now(), err
	return err
}

// resolveUpstreams returns the names of upstreams that do not resolve, as of the
// last resolveInterval.
func (h *Health) resolveUpstreams(ctx context.Context, cfg *config.Config) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.resolved) < resolveInterval {
		return h.unresolved
	}
	// The caller may give up; the result is for later callers too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTimeout)
	defer cancel()

	h.unresolved = nil
	seen := make(map[string]bool)
	for i := range cfg.Services {
		host := cfg.Services[i].Upstream.Host
		if _, err := netip.ParseAddr(host); host == "" || err == nil || seen[host] {
			continue
		}
		seen[host] = true
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			h.unresolved = append(h.unresolved, fmt.Sprintf("service %s: its upstream's name cannot be resolved", cfg.Services[i].Name))
		}
	}
	h.resolved = time.Now()
	return h.unresolved
}

// serveReady answers whether the gateway is ready: 200, or 503 with the
// problems.
func (ob *Observer) serveReady(w http.ResponseWriter, r *http.Request) {
	var problems []string
	for _, c := range ob.checks(r.Context()) {
		problems = append(problems, c.problems...)
	}
	if len(problems) == 0 {
		fmt.Fprintln(w, "ok")
		return
	}
	http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
}
