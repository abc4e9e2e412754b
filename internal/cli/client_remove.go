package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func clientRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a client",
		Long: "Deletes the client's file in clients_dir. A client in the configuration file itself must\n" +
			"be removed there.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClientFiles(path))

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change, err := enroll.Remove(*path, args[0])
		if err != nil {
			return err
		}
		taken, err := reloadGateway(cmd.Context(), change.Config)
		if err != nil {
			// It stays removed: a client that still has access would be worse.
			return fmt.Errorf("client %s is removed, but the running gateway still accepts it: %w", args[0], err)
		}
		return printResult(cmd, *output, clientRemoveResult{args[0], change.File, taken}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "client %s is removed (%s); %s\n", termsafe.Name(args[0]), change.File, taken.message())
			return err
		})
	}
	return cmd
}

// clientRemoveResult is the result of client remove.
type clientRemoveResult struct {
	Client  string       `json:"client"`
	File    string       `json:"file"` // deleted
	Gateway reloadStatus `json:"gateway"`
}
