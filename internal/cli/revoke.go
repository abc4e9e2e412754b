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
		Long: "Ends the flows and grants that fit everything that is given. A client may knock again, unless it is\n" +
			"removed from the configuration first (knockgw client remove).",
		Example: "  knockgw revoke --client alice\n  knockgw revoke --source 10.1.0.0/16 --service ssh\n  knockgw revoke --flow 10.1.1.2:50122",
		Args:    exact(0),
	}
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	var what control.Revocation
	flags := cmd.Flags()
	flags.StringVar(&what.Client, "client", "", "of this client `id`")
	flags.StringVar(&what.Service, "service", "", "to this service")
	completeFlag(cmd, "client", completeClients(at))
	completeFlag(cmd, "service", completeServices(at))
	source := flags.String("source", "", "from this `address` or network")
	flow := flags.String("flow", "", "the one connection from this `address:port`")
	completeFlag(cmd, "source", completeSources(at))
	completeFlag(cmd, "flow", completeFlows(at))
	flags.BoolVar(&what.Grants, "grants-only", false, "leave the flows alone")
	flags.BoolVar(&what.All, "all", false, "everybody's")
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
		return asking[control.Revoked]{
			ask: func(ctx context.Context, c *control.Client) (*control.Revoked, error) { return c.Revoke(ctx, what) },
			show: func(w io.Writer, done *control.Revoked) error {
				_, err := fmt.Fprintf(w, "%s and %s ended\n", quantity(done.Flows, "flow"), quantity(done.Grants, "grant"))
				return err
			},
		}.run(cmd, at, *output)
	}
	return cmd
}
