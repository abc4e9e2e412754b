package cli

import (
	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
)

func clientCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Add, list, change and remove the clients of a gateway",
		Long: "The clients that these commands make are files in the directory that the configuration names with\n" +
			"clients_dir, one for each. The running gateway takes a change up at once where the configuration has\n" +
			"a control.socket; otherwise it is to be told, with SIGHUP.",
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(clientAddCommand(), clientListCommand(), clientShowCommand(), clientSetCommand(),
		clientRotateCommand(), clientRemoveCommand())
	return cmd
}

// serviceNames are the names of all services.
func serviceNames(c *config.Config) []string {
	names := make([]string, len(c.Services))
	for i := range c.Services {
		names[i] = c.Services[i].Name
	}
	return names
}
