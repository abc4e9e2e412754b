package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
)

const (
	// defaultConfig is where the commands of the gateway's side find the configuration,
	// unless configVariable or --config names another file.
	defaultConfig  = "/etc/knockgw/knockgw.yaml"
	configVariable = "KNOCKGW_CONFIG"
)

// configFlag adds --config, which every command of the gateway's side has.
func configFlag(cmd *cobra.Command) *string {
	file := defaultConfig
	if env := os.Getenv(configVariable); env != "" {
		file = env
	}
	path := cmd.Flags().String("config", file, "the configuration `file`; "+configVariable+" in the environment names another default")
	completeFlag(cmd, "config", completeFiles("yaml", "yml"))
	return path
}

// A place is where a command finds the running gateway: by the configuration that it runs on, or by its socket where
// that file is gone, broken or names another one by now.
type place struct{ config, socket *string }

// placeFlags adds --config and --socket, which every command has that asks the gateway.
func placeFlags(cmd *cobra.Command) place {
	p := place{configFlag(cmd), cmd.Flags().String("socket", "", "the `file` of the running gateway's control socket (default: control.socket of the configuration)")}
	completeFlag(cmd, "socket", completeFiles())
	return p
}

// gateway is who is to be asked. A configuration that has a mistake in it is what a
// reload is asked about, and the gateway is to say so: then only the socket's name
// is wanted of it.
func (p place) gateway() (*control.Client, error) {
	if p.socket != nil && *p.socket != "" {
		return telling(*p.socket), nil
	}
	socket, err := config.Socket(*p.config)
	if err != nil {
		return nil, errors.Join(err, errors.New("--socket names a running gateway's socket where the configuration cannot be read"))
	}
	return telling(socket), nil
}

// telling is a client that tells its user, once, when the gateway takes long.
func telling(socket string) *control.Client {
	said := false
	return &control.Client{Socket: socket, Working: func() {
		if !said {
			said = true
			fmt.Fprintln(os.Stderr, "the gateway is still working on it ...")
		}
	}}
}
