package cli

import (
	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/protocol"
)

func clientAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Make a client with a new secret, and print its profile",
		Long: "Makes a secret and a client's file in clients_dir, and prints the profile that the client imports with\n" +
			"knockgw import: as text, its URI and a QR code. All three have the secret in them. With --out it is\n" +
			"written to a new file instead, which its owner alone can read.",
		Args: exactArgs(1),
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions // it is a new one
	path := configFlag(cmd)
	services := cmd.Flags().StringArray("service", nil, "the `name` of a service that the client may use; can be repeated (default: all)")
	completeFlag(cmd, "service", completeServices(gatewayFlags{config: path}))
	var h profileOutput
	h.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.run(cmd, func(secret protocol.Secret) (*enroll.Change, error) {
			return enroll.Add(*path, enroll.Newcomer{
				ID: args[0], Secret: secret, Services: *services, Terms: enroll.Terms{Name: h.name, Method: h.method},
			})
		}, args[0], "added")
	}
	return cmd
}
