package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

func bansCommand() *cobra.Command {
	cmd := gatewayRequest[control.Bans]{
		ask: bansOf,
		print: func(w io.Writer, list *control.Bans) error {
			t := newTable(w, "SOURCE", "LEFT")
			for _, b := range list.Bans {
				addRow(t, b.Source, formatSeconds(b.Left))
			}
			return t.Flush()
		},
	}.build(&cobra.Command{
		Use:   "bans",
		Short: "List or remove bans",
		Long: "Lists the sources that are banned after repeated failed authentications. Bans apply\n" +
			"to services that answer unauthenticated connections; hidden services have none.",
	})
	cmd.Args = unknownCommand
	cmd.AddCommand(bansRemoveCommand())
	return cmd
}

func bansRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove SOURCE",
		Short: "Remove the bans of an address or network",
		Args:  exactArgs(1),
	}
	gateway := addGatewayFlags(cmd)
	output := outputFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeBans(gateway))

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		source, err := control.ParseSource(args[0])
		if err != nil {
			return &usageError{fmt.Errorf("bans remove: %w", err)}
		}
		return gatewayRequest[control.Unbanned]{
			ask: func(ctx context.Context, c *control.Client) (*control.Unbanned, error) { return c.Unban(ctx, source) },
			print: func(w io.Writer, done *control.Unbanned) error {
				_, err := fmt.Fprintf(w, "%s removed\n", pluralize(done.Bans, "ban"))
				return err
			},
		}.run(cmd, gateway, *output)
	}
	return cmd
}
