package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/knockgw/knockgw/internal/routing"
)

const (
	// restorePause is the least time between two restorations: a program that
	// deletes routes over and over takes no processor's time.
	restorePause = 200 * time.Millisecond
	// restoreEvery is how often is looked without a change.
	restoreEvery = 5 * time.Second
	// restoreLogEvery is how often restorations are logged at most.
	restoreLogEvery = 10 * time.Second
)

// A Restoration adds the routes and rules of a gateway again whenever another program
// deletes them. It needs CAP_NET_ADMIN, and nothing of the gateway but this.
type Restoration struct {
	Hold   routing.ProtectedSet
	Device int // interface index
	Log    *slog.Logger
	// Alive reports whether the gateway still runs; it is asked after something was
	// found to be missing, so that nothing is added again behind a gateway that ended.
	Alive func() bool

	logged   time.Time
	restored int // since then
}

// Run restores until ctx ends, and does nothing more once the device is gone.
func (r *Restoration) Run(ctx context.Context) (err error) {
	changes, err := routing.NewRouteMonitor()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, changes.Close()) }()
	for {
		if !r.look() {
			<-ctx.Done() // of the gateway, which stops, or has lost its device and will
			return nil
		}
		select {
		case <-time.After(restorePause):
		case <-ctx.Done():
			return nil
		}
		if more, err := changes.Wait(ctx, restoreEvery); err != nil || !more {
			return err
		}
	}
}

// look restores what is missing, and reports whether there is a device still.
func (r *Restoration) look() bool {
	link, err := net.InterfaceByIndex(r.Device)
	if err != nil {
		return false
	}
	missing, err := r.Hold.Verify(link.Name)
	if err == nil && len(missing) == 0 || !r.Alive() {
		return true
	}
	if err == nil {
		err = r.Hold.Restore(r.Device)
	}
	r.restored++
	if time.Since(r.logged) < restoreLogEvery {
		return true
	}
	if err != nil {
		r.Log.Error("routes and rules cannot be restored", "missing", few(missing), "error", err)
	} else {
		r.Log.Warn("another program had deleted routes or rules, which were added again", "missing", few(missing), "times", r.restored,
			"remedy", fmt.Sprintf("keep it from that: %s", networkdRemedy))
	}
	r.logged, r.restored = time.Now(), 0
	return true
}

// networkdRemedy is what keeps the network manager that does it most often from it.
const networkdRemedy = "systemd-networkd with ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in networkd.conf; ip monitor shows others"
