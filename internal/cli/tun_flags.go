package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/tun"
)

// tunFlags select an existing TUN interface, which another program has prepared
// together with its routes.
type tunFlags struct {
	prepared bool
	fd       int
}

func (f *tunFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.prepared, "prepared", false, "use the existing interface tun.name, which is up and has its routes; change\n"+
		"neither it nor any route")
	flags.IntVar(&f.fd, "tun-fd", 0, "use the interface of this open file `descriptor`, as with --prepared")
}

// open opens the interface; nil if the gateway is to create one.
func (f *tunFlags) open(cfg *config.Config) (tun.Device, error) {
	switch {
	case f.prepared && f.fd != 0:
		return nil, &usageError{errors.New("--prepared and --tun-fd exclude each other")}
	case f.fd < 0:
		return nil, &usageError{errors.New("--tun-fd: write the number of an open file descriptor")}
	case f.prepared, f.fd != 0:
		return tun.Open(tun.Options{Name: cfg.TUN.Name, MTU: cfg.TUN.MTU, Existing: f.prepared, FD: f.fd})
	default:
		return nil, nil
	}
}
