package observe

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/knockgw/knockgw/internal/routing"
)

const (
	// restorePause is the minimum time between two restorations: a program that
	// deletes routes repeatedly must not cost a processor.
	restorePause = 200 * time.Millisecond
	// restoreInterval is how often the routes are verified without a change.
	restoreInterval = 5 * time.Second
	// restoreLogInterval is the minimum time between two log lines.
	restoreLogInterval = 10 * time.Second
	// networkdRemedy prevents the removal by the network manager that does it
	// most often.
	networkdRemedy = "prevent the removal: systemd-networkd with ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in networkd.conf; " +
		"ip monitor shows other programs"
)

// A RouteRestorer adds the routes and rules of a gateway again when another
// process deletes them. It needs CAP_NET_ADMIN, and runs in a process of its
// own.
type RouteRestorer struct {
	Routes routing.ProtectedSet
	Device int // interface index
	Log    *slog.Logger
	// Alive reports whether the gateway still runs. It is called after routes
	// were found missing, so that none are added after the gateway's end.
	Alive func() bool

	logged   time.Time
	restored int // since then
}

// Run restores routes until ctx ends; it does nothing once the device is gone.
func (r *RouteRestorer) Run(ctx context.Context) (err error) {
	changes, err := routing.NewRouteMonitor()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, changes.Close()) }()
	for {
		if !r.restore() {
			<-ctx.Done() // the gateway is stopping, or will because its device is gone
			return nil
		}
		if !sleep(ctx, restorePause) {
			return nil
		}
		if more, err := changes.Wait(ctx, restoreInterval); err != nil || !more {
			return err
		}
	}
}

// restore adds what is missing, and reports whether the device still exists.
func (r *RouteRestorer) restore() bool {
	link, err := net.InterfaceByIndex(r.Device)
	if err != nil {
		return false
	}
	missing, err := r.Routes.Verify(link.Name)
	if err == nil && len(missing) == 0 || !r.Alive() {
		return true
	}
	if err == nil {
		err = r.Routes.Restore(r.Device)
	}

	r.restored++
	if time.Since(r.logged) < restoreLogInterval {
		return true
	}
	if err != nil {
		r.Log.Error("cannot restore routes and rules", "missing", summarize(missing), "err", err)
	} else {
		r.Log.Warn("restored routes or rules that another process had removed", "missing", summarize(missing), "count", r.restored, "remedy", networkdRemedy)
	}
	r.logged, r.restored = time.Now(), 0
	return true
}
