package cli

import (
	"github.com/spf13/cobra"
)

func clientShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print the profile of a client again",
		Long: "Prints the profile of a client as client add did, with the secret that the client has: for another device,\n" +
			"or after its services or the gateway's settings have changed. A client in the configuration itself has one\n" +
			"too. Nothing is changed. The client imports it with --replace. The secret is in it.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClients(gatewayFlags{config: path}))
	h := profileOutput{replace: true}
	h.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return h.show(cmd, *path, args[0]) }
	return cmd
}
