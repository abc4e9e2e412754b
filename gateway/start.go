package gateway

import (
	"context"
	"errors"
	"sync"

	"github.com/knockgw/knockgw/internal/observe"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

// A run in order. The first half needs privileges; DropPrivileges comes between.
//
//	check        that no gateway runs already
//	open         blackholes, ports of the host, device
//	filter       the kernel's packet filter
//	attach       routes to the device
//	start        control socket, replay store, metrics, audit, gate and stack
//	serve        read packets, until the context ends
//	drain        refuse new flows, wait for the others
//	stop         device, stack, gate, servers

// errPreparedLocal: the rules and sockets of tun.local come with a device that
// the gateway opens, and without them the ports are not hidden.
var errPreparedLocal = errors.New("tun.local needs a device that knockgw opens itself, not a prepared one: remove tun.local, or start without --prepared and --tun-fd")

func (g *Gateway) run(ctx context.Context) (err error) {
	defer func() { g.snapshots.current.Load().closeListeners(nil) }() // however the run ends
	if err := g.checkNotRunning(); err != nil {
		return err // before anything else: it would take the routes of the other gateway
	}
	device, err := g.open()
	if err != nil {
		return err
	}
	in := &instance{o: &g.o, snapshots: &g.snapshots, flows: g.flows, observer: g.observer, device: device}
	defer func() {
		err = errors.Join(err, in.closeFilter())
		if in.stack == nil { // which closes the device
			err = errors.Join(err, device.Close())
		}
	}()
	if in.filter, err = openFilter(g.snapshots.current.Load(), device, g.o.Log); err != nil {
		return err
	}
	if err := g.attach(device); err != nil {
		return err
	}

	if g.o.Restorer != nil && g.o.Device == nil && routing.RoutesManaged {
		if err := g.o.Restorer(g.routes, device.Info().Index); err != nil {
			g.o.Log.Warn("cannot restore routes that another process deletes, except by a restart", "err", err)
		}
	}
	if g.o.DropPrivileges != nil {
		if err := g.o.DropPrivileges(); err != nil {
			return err
		}
	}
	return g.start(ctx, in)
}

// open opens the device. The blackholes come first, so that at no time the host
// answers for a protected address, or for a hidden port of its own.
func (g *Gateway) open() (tun.Device, error) {
	if g.o.Device != nil {
		if len(g.routes.Ports) > 0 {
			return nil, errors.Join(errPreparedLocal, g.o.Device.Close())
		}
		return g.o.Device, nil
	}
	if err := g.observer.Bypass.CheckAddresses(); err != nil {
		return nil, err
	}
	if err := g.routes.Routes().InstallBlackholes(); err != nil {
		return nil, err
	}
	var err error
	if g.ports, err = g.routes.HostPorts().Install(); err != nil {
		return nil, err
	}
	t := &g.snapshots.current.Load().cfg.TUN
	return tun.Open(tun.Options{Name: t.Name, MTU: t.MTU})
}

// attach routes the protected prefixes to the device, which queues packets
// until the gate is ready.
func (g *Gateway) attach(device tun.Device) error {
	if g.o.Device != nil {
		return nil
	}
	cfg, name := g.snapshots.current.Load().cfg, device.Info().Name
	if !routing.RoutesManaged {
		g.o.Log.Warn("routes must be set manually on this system", "device", name, "routes", cfg.TUN.Routes)
	}
	if err := g.routes.Routes().Attach(name); err != nil {
		return err
	}
	if err := g.routes.HostPorts().Attach(name); err != nil {
		return err
	}
	if err := checkUpstreams(cfg, name); err != nil {
		return err
	}
	return g.observer.Bypass.Check(device)
}

// start opens what needs no privileges, and serves until ctx ends.
func (g *Gateway) start(ctx context.Context, in *instance) (err error) {
	defer func() {
		if err != nil {
			_ = in.closeServers() // those that ran have closed themselves
		}
	}()
	if in.control, err = g.listenControl(); err != nil {
		return err
	}

	store, err := g.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if in.metrics, err = g.observer.Listen(); err != nil {
		return err
	}
	if err := g.observer.Audit.Open(); err != nil {
		return err
	}
	if err := in.wire(ctx, store); err != nil {
		return err
	}
	return g.serve(ctx, in)
}

func (g *Gateway) openStore() (replay.Store, error) {
	o := replay.Options{Now: g.o.Now, Logger: g.o.Log}
	if dir := g.snapshots.current.Load().cfg.State.Dir; dir != "" {
		return replay.OpenFileStore(dir, o)
	}
	g.o.Log.Warn("replay protection is in memory only: a captured knock works again after a restart, within its time window; set state.dir")
	return replay.NewMemoryStore(o), nil
}

// serve runs an instance until ctx ends, or until a part of it fails. The order
// of the stop: refuse new flows, drain, close the device, wait for the stack,
// stop processing knocks.
func (g *Gateway) serve(ctx context.Context, in *instance) error {
	work, stop := context.WithCancelCause(context.Background())
	var (
		wg    sync.WaitGroup
		first error
		once  sync.Once
	)
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(work); err != nil {
				once.Do(func() { first = err })
				stop(err)
			}
		})
	}
	target := in.target()
	g.observer.Attach(target)
	start(in.gate.Run)
	start(in.stack.Run)
	start(in.runFilter)
	start(g.observer.Audit.Run)
	start(func(ctx context.Context) error { return g.observer.Routes.Run(ctx, target) })
	start(func(ctx context.Context) error { return g.observer.Bypass.Run(ctx, target) })
	start(in.metrics.Run)
	start(in.control.run)
	g.setReady(in, target)

	select {
	case <-ctx.Done():
		g.endReloads()
		in.drain()
	case <-work.Done():
		g.endReloads()
		in.abort()
	}
	g.observer.Audit.Stop(context.Cause(work))
	stop(nil)
	wg.Wait()
	return first
}

// setReady announces that packets are admitted from now on.
func (g *Gateway) setReady(in *instance, target *observe.Target) {
	cfg := g.snapshots.current.Load().cfg
	g.running.Store(in)
	g.observer.SetRunning(target)
	message := "ready"
	if len(g.observer.Bypass.Problems()) > 0 {
		message = "started, but not ready: see the errors above"
	}
	g.o.Log.Info(message, "device", in.device.Info().Name, "routes", cfg.TUN.Routes, "services", len(cfg.Services), "metrics", cfg.Metrics.Listen)
	g.observer.Audit.Start(cfg)
	close(g.ready)
}

// endReloads waits for the reload in progress, if any, and prevents others.
func (g *Gateway) endReloads() {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	g.running.Store(nil)
	g.observer.SetRunning(nil)
}
