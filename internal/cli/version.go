package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/buildinfo"
)

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: "Prints the version, the commit it was built from, if known, and the version of Go.\n" +
			"knockgw status prints those of the running gateway.",
		Args: exactArgs(0),
	}
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		this := buildinfo.This()
		return printResult(cmd, *output, this, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, "knockgw", versionText(this))
			return err
		})
	}
	return cmd
}
