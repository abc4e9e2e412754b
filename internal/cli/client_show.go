package cli

import (
	"github.com/spf13/cobra"
)

func clientShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print the profile of a client",
		Long: "Prints the current profile of a client as client add did, including its secret: for\n" +
			"another device, or after its services or the gateway's settings have changed. It also\n" +
			"works for clients in the configuration file itself, and changes nothing. The client\n" +
			"reads the profile with knockgw import --replace.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClients(gatewayFlags{config: path}))
	out := profileOutput{replace: true}
	out.add(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error { return out.show(cmd, *path, args[0]) }
	return cmd
}
