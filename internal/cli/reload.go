package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/control"
)

func reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration of the running gateway",
		Long: "Makes the running gateway load its configuration again, and prints what has changed.\n" +
			"Flows that the change does not concern continue. Flows of clients, secrets,\n" +
			"permissions and services that were removed end at once. An invalid configuration\n" +
			"changes nothing: its errors are printed, and the exit code is 78.",
		Args: exactArgs(0),
	}
	gateway := addGatewayFlags(cmd)
	output := outputFlag(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "print what would change, and change nothing")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := gateway.client()
		if err != nil {
			return err
		}
		ask := c.Reload
		if *dryRun {
			ask = c.Check
		}
		result, err := ask(cmd.Context())
		if err != nil {
			return err
		}
		return printResult(cmd, *output, result, func(w io.Writer) error { return printReload(w, result) })
	}
	return cmd
}

// printReload prints the result of a reload or a dry run.
func printReload(w io.Writer, r *control.Result) error {
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, warning)
	}
	for _, line := range r.Changes.Lines() {
		fmt.Fprintln(w, line)
	}
	switch {
	case r.Changes.Empty():
		fmt.Fprintln(w, "nothing has changed")
	case r.Applied:
		fmt.Fprintf(w, "reloaded; %s and %s ended\n", pluralize(r.Flows, "flow"), pluralize(r.Grants, "grant"))
	}
	return nil
}
