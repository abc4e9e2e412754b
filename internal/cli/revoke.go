package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "End flows and grants at once",
		Long: "Ends the flows and grants that match all of the given flags. The client can knock\n" +
			"again unless it is first removed from the configuration (knockgw client remove).",
		Example: "  knockgw revoke --client alice\n" +
			"  knockgw revoke --source 10.1.0.0/16 --service ssh\n" +
			"  knockgw revoke --flow 10.1.1.2:50122",
		Args: exactArgs(0),
	}
	gateway := addGatewayFlags(cmd)
	output := outputFlag(cmd)
	var what control.Revocation
	flags := cmd.Flags()
	flags.StringVar(&what.Client, "client", "", "match the client `id`")
	flags.StringVar(&what.Service, "service", "", "match the service `name`")
	source := flags.String("source", "", "match a source `address` or network")
	flow := flags.String("flow", "", "match the one connection from `address:port`")
	flags.BoolVar(&what.Grants, "grants-only", false, "do not end flows")
	flags.BoolVar(&what.All, "all", false, "match everything")
	completeFlag(cmd, "client", completeClients(gateway))
	completeFlag(cmd, "service", completeServices(gateway))
	completeFlag(cmd, "source", completeSources(gateway))
	completeFlag(cmd, "flow", completeFlows(gateway))

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if *source != "" {
			if what.Source, err = control.ParseSource(*source); err != nil {
				return &usageError{fmt.Errorf("--source: %w", err)}
			}
		}
		if *flow != "" {
			if what.Flow, err = netip.ParseAddrPort(*flow); err != nil {
				return &usageError{fmt.Errorf("--flow: %w; knockgw flows lists them", err)}
			}
		}
		if err := what.Check(); err != nil {
			return &usageError{err}
		}
		return gatewayRequest[control.Revoked]{
			ask: func(ctx context.Context, c *control.Client) (*control.Revoked, error) { return c.Revoke(ctx, what) },
			print: func(w io.Writer, done *control.Revoked) error {
				_, err := fmt.Fprintf(w, "%s and %s ended\n", pluralize(done.Flows, "flow"), pluralize(done.Grants, "grant"))
				return err
			},
		}.run(cmd, gateway, *output)
	}
	return cmd
}
