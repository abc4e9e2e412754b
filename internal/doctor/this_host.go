package doctor

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
)

// ThisHost returns a Host that queries the system that the program runs on,
// about the gateway of a configuration.
func ThisHost(cfg *config.Config) *Host {
	h := &Host{
		System: runtime.GOOS,
		Running: func(ctx context.Context) (int, error) {
			status, err := (&control.Client{Socket: cfg.Control.Socket}).Status(ctx)
			if err != nil {
				return 0, err
			}
			return status.PID, nil
		},
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		Dial: func(ctx context.Context, address string) error {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		},
		LoadZone: func(name string) error {
			_, err := time.LoadLocation(name)
			return err
		},
		Links: links,
	}
	h.addQueries(cfg)
	return h
}

// links returns the interfaces, by the means that all systems have.
func links() ([]Link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	found := make([]Link, 0, len(all))
	for _, i := range all {
		l := Link{Name: i.Name, MTU: i.MTU, Up: i.Flags&net.FlagUp != 0, Loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				l.Addrs = append(l.Addrs, p)
			}
		}
		found = append(found, l)
	}
	return found, nil
}
