package cli

import (
	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/protocol"
)

func clientAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Add a client and print its profile",
		Long: "Generates a secret, creates the client's file in clients_dir, and prints the profile,\n" +
			"which the client reads with knockgw import: as YAML, as a URI and as a QR code. All\n" +
			"three contain the secret. With --out the profile is written to a new file with mode\n" +
			"0600 instead.",
		Args: exactArgs(1),
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions // a new name
	path := configFlag(cmd)
	services := cmd.Flags().StringArray("service", nil, "`name` of a service that the client may use; repeatable (default: all)")
	completeFlag(cmd, "service", completeServices(gatewayFlags{config: path}))
	var out profileOutput
	out.add(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return out.run(cmd, func(secret protocol.Secret) (*enroll.Change, error) {
			return enroll.Add(*path, enroll.NewClient{
				ID: args[0], Secret: secret, Services: *services, Profile: enroll.ProfileOptions{Name: out.name, Method: out.method},
			})
		}, args[0], "added")
	}
	return cmd
}
