package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

func bansCommand() *cobra.Command {
	cmd := asking[control.Bans]{
		ask: bansOf,
		show: func(w io.Writer, list *control.Bans) error {
			t := columns(w, "SOURCE", "LEFT")
			for _, b := range list.Bans {
				row(t, b.Source, lasting(b.Left))
			}
			return t.Flush()
		},
	}.onto(&cobra.Command{
		Use:   "bans",
		Short: "List banned sources, or remove bans",
		Long: "Lists the sources that are banned from services with unauthenticated handshakes after repeated failures.\n" +
			"Hidden services have no bans.",
	})
	cmd.Args = noSuchCommand
	cmd.AddCommand(bansRemoveCommand())
	return cmd
}

func bansRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove SOURCE",
		Short: "Remove the bans of an address or network",
		Args:  exact(1),
	}
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	cmd.ValidArgsFunction = alone(completeBans(at))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		source, err := control.ParseSource(args[0])
		if err != nil {
			return &usageError{fmt.Errorf("bans remove: %w", err)}
		}
		return asking[control.Unbanned]{
			ask: func(ctx context.Context, c *control.Client) (*control.Unbanned, error) { return c.Unban(ctx, source) },
			show: func(w io.Writer, done *control.Unbanned) error {
				_, err := fmt.Fprintf(w, "%d bans removed\n", done.Bans)
				return err
			},
		}.run(cmd, at, *output)
	}
	return cmd
}
