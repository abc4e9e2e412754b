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
	// defaultConfig is the configuration file of the gateway's commands, unless
	// configVariable or --config names another.
	defaultConfig  = "/etc/knockgw/knockgw.yaml"
	configVariable = "KNOCKGW_CONFIG"
)

// configFlag adds --config, which all commands of the gateway have.
func configFlag(cmd *cobra.Command) *string {
	file := defaultConfig
	if env := os.Getenv(configVariable); env != "" {
		file = env
	}
	path := cmd.Flags().String("config", file, "configuration `file`; $"+configVariable+" sets the default")
	completeFlag(cmd, "config", completeFiles("yaml", "yml"))
	return path
}

// gatewayFlags locate the running gateway: by the configuration that it runs
// on, or by its socket if that file is missing, invalid, or names another
// socket by now.
type gatewayFlags struct{ config, socket *string }

// addGatewayFlags adds --config and --socket, which all commands have that talk
// to the running gateway.
func addGatewayFlags(cmd *cobra.Command) gatewayFlags {
	f := gatewayFlags{configFlag(cmd), cmd.Flags().String("socket", "",
		"control socket `file` of the running gateway (default: control.socket in the configuration)")}
	completeFlag(cmd, "socket", completeFiles())
	return f
}

// client returns a client of the running gateway. Of a configuration only the
// socket is read: whether the rest is valid is what a reload asks the gateway.
func (f gatewayFlags) client() (*control.Client, error) {
	if f.socket != nil && *f.socket != "" {
		return newControlClient(*f.socket), nil
	}
	socket, err := config.Socket(*f.config)
	if err != nil {
		return nil, errors.Join(err,
			errors.New("if the configuration cannot be read, name the socket of the running gateway with --socket"))
	}
	return newControlClient(socket), nil
}

// newControlClient returns a client that notifies the user, once, when the
// gateway takes long.
func newControlClient(socket string) *control.Client {
	notified := false
	return &control.Client{Socket: socket, Working: func() {
		if !notified {
			notified = true
			fmt.Fprintln(os.Stderr, "the gateway is still working on it ...")
		}
	}}
}
