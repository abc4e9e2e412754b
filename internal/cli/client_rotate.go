package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/protocol"
)

// defaultOverlap is how long older secrets remain valid: a day to import the
// new one.
const defaultOverlap = 24 * time.Hour

func clientRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a client a new secret and print its new profile",
		Long: "Adds a new secret. The older secrets remain valid for --overlap. The new profile is\n" +
			"printed as by client add, with the --name and --method given there; the client reads it\n" +
			"with knockgw import --replace.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClientFiles(path))
	after := cmd.Flags().Duration("overlap", defaultOverlap, "how long older secrets remain valid; 0 for not at all")
	out := profileOutput{replace: true}
	out.add(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var until time.Time
		switch {
		case *after < 0:
			return &usageError{fmt.Errorf("--overlap %v: write a positive duration, or 0", *after)}
		case *after > 0:
			until = time.Now().Add(*after).Truncate(time.Second)
		}
		return out.run(cmd, func(secret protocol.Secret) (*enroll.Change, error) {
			return enroll.Rotate(*path, args[0], secret, until)
		}, args[0], "has a new secret")
	}
	return cmd
}
