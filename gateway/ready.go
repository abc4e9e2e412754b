package gateway

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

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/tun"
)

// Whether clients get in as far as the gateway can tell: for machines, at /readyz and
// in the metrics.

// health is what readiness depends on besides the gateway itself.
type health struct {
	storeFailed atomic.Int64 // when the replay store last could not write, in Unix nanoseconds; 0: never

	mu       sync.Mutex
	resolved time.Time // when upstreams were last looked up
	missing  []string  // those that could not be

	store storeTry
}

// storeTry is the last try to write to the replay store. A disk that hangs holds up who
// tries, and nobody else who asks.
type storeTry struct {
	mu   sync.Mutex // not held during the try
	at   time.Time  // when it began, or ended
	busy bool       // it goes on
	err  error      // what came of the last that has ended
}

// errStoreHangs says that nothing has come of a try for long.
var errStoreHangs = errors.New("its disk does not answer")

// tried returns what came of the last try, or of another if it is time for one.
func (t *storeTry) tried(try func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	recent := !t.at.IsZero() && time.Since(t.at) < storeEvery
	switch {
	case recent:
		return t.err
	case t.busy:
		return errStoreHangs
	}
	t.busy, t.at = true, time.Now()
	t.mu.Unlock()
	err := try()
	t.mu.Lock()
	t.busy, t.at, t.err = false, time.Now(), err
	return err
}

const (
	// storeMemory is for how long a failure of the replay store makes the gateway
	// not ready: longer than scrapers usually wait, and until the next knock.
	storeMemory = time.Minute
	// storeEvery is how often the store is tried where no knock does.
	storeEvery = 5 * time.Second
	// resolveEvery and resolveTime bound what readiness asks of name servers.
	resolveEvery = 15 * time.Second
	resolveTime  = 2 * time.Second
)

// A check is one thing that must be so for the gateway to be ready, and why it is not.
type check struct {
	name     string // fit for a metric label
	problems []string
}

// checks are all of them, in the order in which the gateway depends on them.
func (g *Gateway) checks(ctx context.Context) []check {
	list := []check{{name: "running"}, {name: "device"}, {name: "routes"}, {name: "store"}, {name: "upstreams"}}
	p := g.running.Load()
	if p == nil {
		list[0].problems = []string{"the gateway is starting or stopping"}
		return list
	}
	list[1].problems = problem(p.deviceUp())
	list[2].problems = append(g.intact.problems(), g.bypass.problems()...)
	list[3].problems = problem(p.storeWritable())
	list[4].problems = g.health.unresolved(ctx, g.now.Load().cfg)
	return list
}

// hostProblems are those of the device and of the host's network, which take no
// question to another host.
func (g *Gateway) hostProblems(p *parts) []string {
	all := append(problem(p.deviceUp()), g.intact.problems()...)
	return append(append([]string{}, all...), g.bypass.problems()...)
}

func problem(err error) []string {
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}

// deviceUp returns what is wrong with the device's interface. One of an embedding
// program may have none.
func (p *parts) deviceUp() error {
	info := p.device.Info()
	if _, ok := p.device.(tun.FilterAttacher); !ok && p.g.o.Device != nil {
		return nil
	}
	i, err := info.Interface()
	if err != nil {
		return fmt.Errorf("there is no interface %s any more: restart the gateway", info.Name)
	}
	if i.Flags&net.FlagUp == 0 {
		return fmt.Errorf("the interface %s is down, and its routes are gone: restart the gateway", i.Name)
	}
	return nil
}

// deviceName is what the device's interface is called now.
func (p *parts) deviceName() string {
	info := p.device.Info()
	if i, err := info.Interface(); err == nil {
		return i.Name
	}
	return info.Name
}

// storeWritable returns why the replay store cannot be written: as of the last knocks,
// or as of a try of our own where there were none.
func (p *parts) storeWritable() error {
	h := &p.g.health
	if at := h.storeFailed.Load(); at != 0 && p.g.o.Now().Sub(time.Unix(0, at)) < storeMemory {
		return errors.New("the replay store cannot be written: knocks are refused")
	}
	store, ok := p.replay.Store.(interface{ Writable() error })
	if !ok {
		return nil
	}
	if err := h.store.tried(store.Writable); err != nil {
		return fmt.Errorf("the replay store cannot be written, and knocks will be refused: %w", err)
	}
	return nil
}

// unresolved looks up the names of upstreams, now and then.
func (h *health) unresolved(ctx context.Context, cfg *config.Config) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.resolved) < resolveEvery {
		return h.missing
	}
	// Whoever asks may give up; the answer is for others too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTime)
	defer cancel()
	h.missing = nil
	seen := make(map[string]bool)
	for i := range cfg.Services {
		host := cfg.Services[i].Upstream.Host
		if _, err := netip.ParseAddr(host); host == "" || err == nil || seen[host] {
			continue
		}
		seen[host] = true
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			h.missing = append(h.missing, fmt.Sprintf("service %s: its upstream's name cannot be resolved", cfg.Services[i].Name))
		}
	}
	h.resolved = time.Now()
	return h.missing
}

// answerReady answers whether the gateway is ready: 200, or 503 and why not.
func (g *Gateway) answerReady(w http.ResponseWriter, r *http.Request) {
	var problems []string
	for _, c := range g.checks(r.Context()) {
		problems = append(problems, c.problems...)
	}
	if len(problems) == 0 {
		fmt.Fprintln(w, "ok")
		return
	}
	http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
}
