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
		Short: "Have the running gateway load its configuration anew",
		Long: "Has the gateway that runs on this configuration load it anew, and prints what has changed. Flows of\n" +
			"what did not change go on; those of clients, secrets, permissions and services that are gone end\n" +
			"at once. A configuration with a mistake changes nothing: it is named, and the exit code is 78.",
		Args: exact(0),
	}
	at := placeFlags(cmd)
	output := outputFlag(cmd)
	rehearse := cmd.Flags().Bool("dry-run", false, "only say what would change")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := at.gateway()
		if err != nil {
			return err
		}
		ask := c.Reload
		if *rehearse {
			ask = c.Check
		}
		result, err := ask(cmd.Context())
		if err != nil {
			return err
		}
		return answer(cmd, *output, result, func(w io.Writer) error { return printResult(w, result) })
	}
	return cmd
}

func printResult(w io.Writer, r *control.Result) error {
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
		fmt.Fprintf(w, "reloaded; %s and %s ended\n", quantity(r.Flows, "flow"), quantity(r.Grants, "grant"))
	}
	return nil
}
