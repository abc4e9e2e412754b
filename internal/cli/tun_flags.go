package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/tun"
)

// device is a TUN interface that somebody with the privileges has prepared, together
// with its routes.
type device struct {
	prepared bool
	fd       int
}

func (d *device) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&d.prepared, "prepared", false, "use the persistent interface tun.name, which is up and routed to: neither it nor\n"+
		"any route is changed")
	flags.IntVar(&d.fd, "tun-fd", 0, "use the interface of the open `descriptor` of that number, likewise")
}

// open takes the device; nil where the gateway is to make one.
func (d *device) open(cfg *config.Config) (tun.Device, error) {
	switch {
	case d.prepared && d.fd != 0:
		return nil, &usageError{errors.New("--prepared and --tun-fd are two ways to say which interface; choose one")}
	case d.fd < 0:
		return nil, &usageError{errors.New("--tun-fd: write the number of an open descriptor")}
	case d.prepared, d.fd != 0:
		return tun.Open(tun.Options{Name: cfg.TUN.Name, MTU: cfg.TUN.MTU, Existing: d.prepared, FD: d.fd})
	default:
		return nil, nil
	}
}
