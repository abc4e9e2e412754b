package cli

import (
	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
)

func clientCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Manage the clients of a gateway",
		Long: "These commands keep one file for each client in the directory clients_dir of the\n" +
			"configuration. If control.socket is set, the running gateway applies a change at once;\n" +
			"otherwise send it SIGHUP.",
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(clientAddCommand(), clientListCommand(), clientShowCommand(), clientSetCommand(),
		clientRotateCommand(), clientRemoveCommand())
	return cmd
}

// serviceNames returns the names of all services.
func serviceNames(c *config.Config) []string {
	names := make([]string, len(c.Services))
	for i := range c.Services {
		names[i] = c.Services[i].Name
	}
	return names
}
