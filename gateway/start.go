package gateway

import (
	"context"
	"errors"

	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

// errPreparedLocal: rules and sockets of tun.local come with a device of our own, and without them the ports are not hidden.
var errPreparedLocal = errors.New("tun.local needs a device that knockgw makes itself, not one that was prepared: remove tun.local, or start without --prepared and --tun-fd")

// open opens the device. The blackholes come first, so that there is no moment
// at which the host would answer for a protected address, or for a port of its own.
func (g *Gateway) open() (tun.Device, error) {
	if g.o.Device != nil {
		if len(g.hold.Ports) > 0 {
			return nil, errors.Join(errPreparedLocal, g.o.Device.Close())
		}
		return g.o.Device, nil
	}
	if err := g.checkOwnAddresses(); err != nil {
		return nil, err
	}
	if err := g.hold.Routes().InstallBlackholes(); err != nil {
		return nil, err
	}
	var err error
	if g.guard, err = g.hold.HostPorts().Install(); err != nil {
		return nil, err
	}
	t := &g.now.Load().cfg.TUN
	return tun.Open(tun.Options{Name: t.Name, MTU: t.MTU})
}

// attach routes the protected prefixes to the device, in whose queue packets wait
// until the gate stands.
func (g *Gateway) attach(device tun.Device) error {
	if g.o.Device != nil {
		return nil
	}
	cfg := g.now.Load().cfg
	if !routing.RoutesManaged {
		g.log.Warn("routes are set by hand on this system", "device", device.Info().Name, "routes", cfg.TUN.Routes)
	}
	if err := g.hold.Routes().Attach(device.Info().Name); err != nil {
		return err
	}
	if err := g.hold.HostPorts().Attach(device.Info().Name); err != nil {
		return err
	}
	if err := checkUpstreams(cfg, device.Info().Name); err != nil {
		return err
	}
	return g.checkBypass(device)
}

// open opens what takes no privilege, and runs the gateway.
func (p *parts) open(ctx context.Context) (err error) {
	g := p.g
	var all servers
	defer func() {
		if err != nil {
			_ = all.close() // what runs has closed itself
		}
	}()
	if all.control, err = g.listenControl(); err != nil {
		return err
	}
	store, err := g.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if all.metrics, err = g.listenMetrics(); err != nil {
		return err
	}
	if err := g.openAudit(); err != nil {
		return err
	}
	if err := p.assemble(ctx, store); err != nil {
		return err
	}
	p.servers = &all
	g.metrics.watch(p)
	return p.run(ctx, &all)
}

// servers are what the gateway listens with besides the stack; either may be nil.
type servers struct {
	metrics *metricsServer
	control *controlServer
}

func (s *servers) close() error { return errors.Join(s.metrics.Close(), s.control.Close()) }

func (g *Gateway) openStore() (replay.Store, error) {
	o := replay.Options{Now: g.o.Now, Logger: g.log}
	if dir := g.now.Load().cfg.State.Dir; dir != "" {
		return replay.OpenFileStore(dir, o)
	}
	g.log.Warn("replay protection is in memory only: a captured knock works again after a restart, within its time window; set state.dir")
	return replay.NewMemoryStore(o), nil
}
